"""A dominant subspace on disk: its arrays, and its numbers as JSON for people and scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from scalselect.local_copies import local_file
from scalselect.records import DominantSubspace
from scalselect.representation_store import METADATA_KEY
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_subspace(path: Path, subspace: DominantSubspace, inputs: Mapping[str, Any]) -> None:
    """Write a subspace: mean [hidden], basis [hidden, k], singular values [k] and all that are known, all float64.

    Parameters
    ----------
    inputs
        What it was made from, kept with it.
    """
    arrays = {
        "mean": subspace.mean,
        "basis": np.ascontiguousarray(subspace.basis),
        "singular_values": subspace.singular_values,
        "spectrum": subspace.spectrum,
    }
    if subspace.scale is not None:
        arrays["scale"] = subspace.scale
    facts = {**facts_of_subspace(subspace), "inputs": inputs}
    publish_bytes(path, safetensors.numpy.save(arrays, metadata={METADATA_KEY: json.dumps(facts, sort_keys=True)}))


def read_subspace(path: Path) -> DominantSubspace | None:
    """Return a subspace as written; None where there is none, or the file is damaged."""
    facts = _read_facts(path)
    if facts is None:
        return None
    with local_file(path) as local:
        arrays = safetensors.numpy.load_file(local)
    return DominantSubspace(
        mean=arrays["mean"],
        basis=arrays["basis"],
        singular_values=arrays["singular_values"],
        energy=facts["energy"],
        gap=float("inf") if facts["gap"] is None else facts["gap"],
        largest_dimension_energy=facts["largest_dimension_energy"],
        rows=facts["n"],
        spectrum=arrays["spectrum"],
        total_energy=facts["total_energy"],
        scale=arrays.get("scale"),
        normalised_rows=facts["normalised_rows"],
    )


def _read_facts(path: Path) -> dict[str, Any] | None:
    """Return the JSON beside the arrays, `inputs` included; None where there is none, or the file is damaged."""
    try:
        with local_file(path) as local, safe_open(local, framework="numpy") as stored:
            facts = json.loads((stored.metadata() or {}).get(METADATA_KEY, "null"))
    except (FileNotFoundError, safetensors.SafetensorError):
        return None
    return facts if isinstance(facts, dict) else None


def facts_of_subspace(subspace: DominantSubspace) -> dict[str, Any]:
    """Return the numbers of a subspace that people and scripts read; an infinite gap, which JSON lacks, is null."""
    return {
        "k": subspace.rank,
        "energy": subspace.energy,
        "gap": subspace.gap if np.isfinite(subspace.gap) else None,
        "largest_dimension_energy": subspace.largest_dimension_energy,
        "n": subspace.rows,
        "total_energy": subspace.total_energy,
        "normalised_rows": subspace.normalised_rows,
    }

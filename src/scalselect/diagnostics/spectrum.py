"""The singular values of a run: how fast the energy falls off, where it was cut, and how clear the cut is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scalselect.records import DominantSubspace


def spectrum_measures(subspace: DominantSubspace, threshold: float | None) -> dict[str, Any]:
    """Describe the spectrum as far as it is known.

    Parameters
    ----------
    subspace
        The dominant subspace; its `spectrum` holds at least the k largest singular values.
    threshold
        The energy asked for; None where the rank was fixed.

    Returns
    -------
    dict
        `k`, `energy` and `threshold`; `gap`, s_k / s_{k+1}; `known`, the number of singular values that follow;
        `singular_values`, `energies` (squares over the sum of all squares) and `cumulative_energy`, all [known].
    """
    energies = subspace.spectrum**2 / subspace.total_energy  # [known]
    return {
        "k": subspace.rank,
        "threshold": threshold,
        "energy": subspace.energy,
        "gap": subspace.gap,
        "known": subspace.spectrum.size,
        "singular_values": subspace.spectrum,
        "energies": energies,
        "cumulative_energy": np.minimum(np.cumsum(energies), 1.0),
    }

"""The words and numbers of `selection.json`: where every row of the pool went, and what was chosen."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scalselect.dataset.subset_facts import SubsetFacts
from scalselect.dataset_info_entry import mixtures
from scalselect.selection.strategies import strategy_named
from scalselect.subspace.dominant import subspace_warnings
from scalselect.subspace_file import facts_of_subspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalselect.budget_choice import Choice
    from scalselect.candidate_rows import CandidateRows, ScoredRun
    from scalselect.config import SelectConfig
    from scalselect.records import DominantSubspace, Selection
    from scalselect.representation_store import ShardReport

METHOD = "ScalSelect (arXiv 2602.11636): instruction-conditioned first-layer representations, leverage scores"
OWN_VECTORS = "leverage scores of vectors made elsewhere"
TIE_RULE = "equal scores in pool order"
_FILES_SHOWN = 3
_NOTED = ("uniform", "truncated", "images_in_front", "exif_rotated", "alpha")


def account_of(run: ScoredRun, rows: CandidateRows, choice: Choice, config: SelectConfig) -> dict[str, Any]:
    """Return the account of one budget's choice, all but the name of its subset."""
    folder, shards, table = run.folder, run.shards, run.table
    selection = choice.selection
    known = folder.store.all_rows(shards, ["tokens", "image_sha256", "escaped", *_NOTED])
    chosen = known.take(pa.array(choice.rows))
    skipped = pc.equal(table["status"], "skipped")
    status = counts_of(table["status"])
    strategy = strategy_named(config.strategy)
    subspace, instruction = folder.read_subspace(), folder.read_instruction_subspace()
    return {
        "method": OWN_VECTORS if "representations" in folder.require()["represent"] else METHOD,
        "strategy": config.strategy,
        "strategy_definition": strategy.definition,
        "seed": config.seed,
        "tie_rule": TIE_RULE,
        "budget": {"asked": str(choice.budget), "rows": len(selection.rows)},
        "rows": {
            "pool": table.num_rows,
            **{name: status.get(name, 0) for name in ("scored", "skipped", "text_only")},
            "eligible": len(rows.eligible),
            "candidates": len(rows.candidates),
            "selected": len(choice.rows),
        },
        "text_only": {
            "asked": config.text_only,
            "rows": status.get("text_only", 0),
            "excluded": status.get("text_only", 0) - len(rows.text_only.rows),
            "included": int(rows.text_only.included.sum()),
            "chosen": len(choice.text_only),
        },
        "skipped": counts_of(table.filter(skipped)["reason"]),
        "barred": {
            "excluded": status.get("scored", 0) - len(rows.eligible),
            "duplicate": len(rows.copies),
            "max_per_image": len(selection.refused),
        },
        "included": int(rows.included.sum()),
        "near_copies_of_other_questions": rows.same_image_copies,
        "strata": {
            name: {"candidates": share.candidates, "quota": share.quota, "chosen": share.chosen}
            for name, share in selection.strata.items()
        },
        "noted": {
            **{name: pc.sum(known[name]).as_py() or 0 for name in _NOTED},
            "escaped": pc.sum(pc.greater(known["escaped"], 0)).as_py() or 0,
        },
        "subspace": facts_of_subspace(subspace),
        "instruction_subspace": None if instruction is None else facts_of_subspace(instruction),
        "selected": {
            "images": len(pc.unique(pc.list_flatten(chosen["image_sha256"]))),
            "tokens": pc.sum(chosen["tokens"]).as_py(),
            "lowest_score": selection.lowest_score,
            "ties_at_cut": selection.ties_at_cut,
        },
        "warnings": [
            *subspace_warnings(subspace),
            *_warnings_of_instructions(instruction if "instruction" in strategy.reads else None),
            *rows.notes,
            *selection.notes,
            *_warnings_of_ties(selection, config),
            *_warnings_of_mixture([folder.store.report(shard) for shard in shards]),
        ],
    }


def counts_of(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each word stands in a column, in the order of the alphabet; nulls are no word."""
    counted = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return {word: counted[word] for word in sorted(word for word in counted if word is not None)}


def warnings_of_subset(subset: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what stops LLaMA-Factory and Hugging Face datasets from loading the chosen records at all."""
    names = {item.name for item in fields(SubsetFacts)}
    return [
        f"{mixture.words}: LLaMA-Factory and `datasets` may load no row of {_files_of(part)}, or change values; "
        f"`scalselect export RUN_DIR {mixture.remedy}` writes a file that they load"
        for part in subset
        for mixture in mixtures(
            part["source"], part["container"], SubsetFacts(**{name: part[name] for name in names if name in part})
        )
    ]


def _files_of(part: Mapping[str, Any]) -> str:
    """Return the files of a data set that hold chosen records, in words."""
    files = [name for name in part["names"] if name not in part.get("empty", [])]
    return ", ".join(f"`{name}`" for name in files[:_FILES_SHOWN]) + (
        " and others" if len(files) > _FILES_SHOWN else ""
    )


def _warnings_of_instructions(subspace: DominantSubspace | None) -> list[str]:
    return [] if subspace is None else [f"instruction vectors: {warning}" for warning in subspace_warnings(subspace)]


def _warnings_of_ties(selection: Selection, config: SelectConfig) -> list[str]:
    if selection.ties_at_cut < 2 or config.strategy != "top-leverage":  # noqa: PLR2004  a tie takes two
        return []
    return [f"{selection.ties_at_cut} rows share the lowest chosen score; those first in the pool were chosen"]


def _warnings_of_mixture(reports: list[ShardReport]) -> list[str]:
    warnings = []
    devices = sorted({report.device for report in reports})
    if len(devices) > 1:
        warnings.append(f"shards were represented on different kinds of device: {', '.join(devices)}")
    names = sorted({name for report in reports for name in report.versions})
    mixed = [name for name in names if len({report.versions.get(name) for report in reports}) > 1]
    if mixed:
        warnings.append(f"shards were represented with different versions of {', '.join(mixed)}")
    return warnings

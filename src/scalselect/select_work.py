"""Stage 3 over a run folder: choose rows, copy their records, and account for every row. No torch."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalselect.dataset.selected_writer import write_selected
from scalselect.errors import BudgetError, RunFolderError
from scalselect.run_folder import shards_of
from scalselect.selection.budget import rows_to_choose
from scalselect.selection.top_leverage import select_top_leverage
from scalselect.storage import sha256_of_file
from scalselect.subspace.dominant import subspace_warnings
from scalselect.subspace_file import facts_of_subspace

if TYPE_CHECKING:
    from scalselect.config import SelectConfig
    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.records import DominantSubspace, Selection
    from scalselect.representation_store import ShardReport
    from scalselect.run_folder import RunFolder

METHOD = "ScalSelect (arXiv 2602.11636): instruction-conditioned first-layer representations, leverage scores"
TIE_RULE = "equal scores in pool order"
_NOTED = ("uniform", "truncated", "images_in_front", "exif_rotated", "alpha")


def select_run(folder: RunFolder, pool: Pool, config: SelectConfig, progress: Progress) -> dict[str, Any]:
    """Choose rows by leverage and write the subset, `scores.parquet` and last `selection.json`.

    Does nothing where the same was chosen from the same scores before. The caller holds the folder's claim.

    Returns
    -------
    dict
        The content of `selection.json`.

    Raises
    ------
    RunFolderError
        If the scores were not made from the representations that lie there.
    BudgetError
        If there are fewer eligible rows than the budget asks for; nothing is changed then.
    """
    shards = shards_of(folder.require()["represent"])
    table = folder.read_scores()
    made_from = folder.inputs_of_scores()
    if made_from is None or made_from["store"] != folder.store.digest(shards):
        raise RunFolderError(
            f"the scores were not made from the representations that lie in {folder.path}: run "
            f"`scalselect score {folder.path}` first"
        )
    inputs = {"select": {"budget": str(config.budget)}, **made_from}
    if folder.has_selection_from(inputs):
        folder.update(select=inputs["select"])
        return folder.read_selection()
    progress.say("selecting")
    selection = _choose(folder, table, config)
    # From here until selection.json is written anew, the old one would vouch for files that no longer match.
    folder.selection.unlink(missing_ok=True)
    subset = write_selected(pool, selection.rows, folder.path)
    chosen = np.zeros(table.num_rows, dtype=np.bool_)
    chosen[selection.rows] = True
    place = table.schema.get_field_index("selected")
    folder.write_scores(table.set_column(place, "selected", pa.array(chosen)), made_from)
    folder.update(select=inputs["select"])
    content = {
        "inputs": inputs,
        "files": {path.name: sha256_of_file(path) for path in (subset, folder.scores)},
        **_account(folder, table, selection, subset.name, config),
    }
    folder.write_selection(content)
    return content


def _choose(folder: RunFolder, table: pa.Table, config: SelectConfig) -> Selection:
    rows = np.flatnonzero(pc.equal(table["status"], "scored").to_numpy(zero_copy_only=False)).astype(np.int64)
    scores = table["leverage_score"].to_numpy()[rows]
    try:
        n = rows_to_choose(config.budget, len(rows))
    except BudgetError as error:
        if error.possible is None:
            raise
        remedy = f"`scalselect select {shlex.quote(str(folder.path))} --budget {error.possible}`"
        raise BudgetError(f"{error}; scores are kept, this would do: {remedy}", error.possible) from error
    return select_top_leverage(scores, rows, n)


def _account(
    folder: RunFolder, table: pa.Table, selection: Selection, subset: str, config: SelectConfig
) -> dict[str, Any]:
    """Return the words and numbers of `selection.json`: where every row of the pool went, and what was chosen."""
    shards = shards_of(folder.require()["represent"])
    known = folder.store.all_rows(shards, ["tokens", "image_sha256", "escaped", *_NOTED])
    chosen = known.take(pa.array(selection.rows))
    status = _counts(table["status"])
    subspace = folder.read_subspace()
    return {
        "method": METHOD,
        "strategy": "top-leverage",
        "tie_rule": TIE_RULE,
        "budget": {"asked": str(config.budget), "rows": len(selection.rows)},
        "rows": {
            "pool": table.num_rows,
            **{name: status.get(name, 0) for name in ("scored", "skipped", "text_only")},
            "eligible": selection.eligible,
            "selected": len(selection.rows),
        },
        "skipped": _counts(table["reason"]),
        "noted": {
            **{name: pc.sum(known[name]).as_py() or 0 for name in _NOTED},
            "escaped": pc.sum(pc.greater(known["escaped"], 0)).as_py() or 0,
        },
        "subspace": facts_of_subspace(subspace),
        "selected": {
            "file": subset,
            "images": len(pc.unique(pc.list_flatten(chosen["image_sha256"]))),
            "tokens": pc.sum(chosen["tokens"]).as_py(),
            "lowest_score": selection.lowest_score,
            "ties_at_cut": selection.ties_at_cut,
        },
        "warnings": _warnings(subspace, selection, [folder.store.report(shard) for shard in shards]),
    }


def _warnings(subspace: DominantSubspace, selection: Selection, reports: list[ShardReport]) -> list[str]:
    warnings = subspace_warnings(subspace)
    if selection.ties_at_cut > 1:
        warnings.append(
            f"{selection.ties_at_cut} rows share the lowest chosen score; those first in the pool were chosen"
        )
    devices = sorted({report.device for report in reports})
    if len(devices) > 1:
        warnings.append(f"shards were represented on different kinds of device: {', '.join(devices)}")
    mixed = sorted(
        {name for report in reports for name in report.versions if report.versions[name] != reports[0].versions[name]}
    )
    if mixed:
        warnings.append(f"shards were represented with different versions of {', '.join(mixed)}")
    return warnings


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return {word: counted[word] for word in sorted(word for word in counted if word is not None)}

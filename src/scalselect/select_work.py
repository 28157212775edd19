"""Stage 3 over a run folder: choose rows, copy their records, and account for every row. No torch."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalselect.account_checks import check_account
from scalselect.budget_choice import choose
from scalselect.candidate_rows import ScoredRun, candidate_rows
from scalselect.dataset.selected_writer import write_selected
from scalselect.diagnose_work import Material, diagnose
from scalselect.errors import RunFolderError
from scalselect.row_lists import KNOWN_QUOTAS, LISTS, digest_of
from scalselect.row_tables import table_bytes
from scalselect.seals import json_bytes
from scalselect.segments import shards_of
from scalselect.selection_account import account_of, warnings_of_subset
from scalselect.storage import publish_bytes, sha256_of_file
from scalselect.training_guide import write_guides
from scalselect.training_sets import account_of_subset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.budget_choice import Choice
    from scalselect.candidate_rows import CandidateRows
    from scalselect.config import SelectConfig
    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder

_SUBSET_COLUMNS = ["row", "source", "id", "id_type", "leverage_score", "rank"]


def select_run(
    folder: RunFolder, pool: Pool | JoinedPool | None, config: SelectConfig, progress: Progress
) -> dict[str, Any]:
    """Choose rows and write the subsets, `scores.parquet`, and last `selection.json`.

    Does nothing where the same was chosen from the same scores before. The caller holds the folder's claim.

    Parameters
    ----------
    pool
        The records to copy; None where a run has vectors alone.

    Returns
    -------
    dict
        The content of `selection.json`.

    Raises
    ------
    RunFolderError
        If the scores were not made from the representations that lie there.
    OptionError
        If what is asked for cannot be found in the pool or the run.
    BudgetError
        If fewer rows can be chosen than the budget asks for; nothing is changed then.
    """
    shards = shards_of(folder.require())
    scores = folder.scores_as_written()
    table, made_from = scores.table, scores.inputs
    if made_from["store"] != folder.store.digest(shards):
        raise RunFolderError(
            f"the scores were not made from the representations that lie in {folder.path}: run "
            f"`scalselect score {folder.path}` first"
        )
    inputs = {"select": _asked(config), "records": None if pool is None else pool.fingerprint(), **made_from}
    stands, fault = folder.state_of_selection(inputs)
    if stands:
        folder.update(select=inputs["select"])
        write_guides(folder)  # it may have been moved, which changes no other file
        return folder.read_selection()
    if fault is not None:
        progress.warn(f"{fault}: selecting again")
    else:
        progress.say("selecting")
    run = ScoredRun(folder, shards, pool, table)
    rows = candidate_rows(run, config, progress)
    chosen = [choose(run, rows, config, budget) for budget in config.budget]
    table = _marked(table, rows, chosen[0])
    diagnosis = _diagnosis(replace(run, table=table), rows, chosen[0], config, progress)
    # From here until selection.json is written anew, the old one would vouch for files that no longer match.
    folder.forget_selection()
    accounts, written = _write_choices(run, rows, chosen, table, config)
    publish_bytes(folder.diagnostics, json_bytes(diagnosis))
    folder.write_scores(table, made_from, scores.files)
    folder.update(select=inputs["select"])
    content = {
        "inputs": inputs,
        "files": {
            str(path.relative_to(folder.path)): sha256_of_file(path)
            for path in (*written, folder.diagnostics, folder.scores)
        },
        "budgets": [
            {**account["budget"], "text_only": account["text_only"]["chosen"], "file": account["selected"]["file"]}
            for account in accounts
        ],
        **accounts[0],
    }
    folder.write_selection(content)
    write_guides(folder)
    return content


def _write_choices(
    run: ScoredRun, rows: CandidateRows, choices: list[Choice], table: pa.Table, config: SelectConfig
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Write the subset of every budget, and beside all but the first what its rows are; return accounts and files."""
    folder = run.folder
    accounts: list[dict[str, Any]] = []
    written: list[Path] = []
    for choice in choices:
        folder.check_claim()
        here = folder.selections / str(choice.budget) if accounts else folder.path
        subset = _write_subset(run.pool, table, choice.rows, here)
        account = account_of(run, rows, choice, config)
        check_account(account, _marked(run.table, rows, choice))
        # Records of several data sets lie in a folder of their own, a file for each.
        named = subset[0] if len(subset) == 1 else here / "selected"
        account["selected"]["file"] = str(named.relative_to(folder.path))
        account["subset"] = None if run.pool is None else account_of_subset(run.pool, choice.rows, subset, folder.path)
        account["warnings"] += warnings_of_subset(account["subset"] or [])
        written += subset
        if accounts:  # scores.parquet marks the rows of the first budget alone
            written.append(_write_rows(table, choice.rows, here / "rows.parquet"))
            written.append(folder.write_selection(account, str(choice.budget)))
        accounts.append(account)
    return accounts, written


def _diagnosis(
    run: ScoredRun, rows: CandidateRows, choice: Choice, config: SelectConfig, progress: Progress
) -> dict[str, Any]:
    progress.say("measuring the choice")
    return diagnose(
        Material(
            folder=run.folder,
            shards=run.shards,
            pool=run.pool,
            table=run.table,
            chosen=choice.rows,
            eligible=rows.eligible,
            subspace=run.folder.read_subspace(),
            coordinates=run.folder.read_coordinates().vision,
            seed=config.seed,
            near_bound=config.near_bound,
        )
    )


def _asked(config: SelectConfig) -> dict[str, Any]:
    """Return the options of a choice as run.json keeps them; of files also what they said."""
    options: dict[str, Any] = {item.name: getattr(config, item.name) for item in fields(config)}
    options["budget"] = ",".join(map(str, config.budget))
    for name in LISTS:
        if options[name] is not None and not isinstance(options[name], str):
            options[name] = "a list"
        elif options[name] is not None and options[name] not in KNOWN_QUOTAS:
            options[name] = str(Path(options[name]).absolute())  # `extend` may be called in another folder
    digests = {name: digest_of(name, getattr(config, name)) for name in LISTS}
    return {**options, "lists": {name: sha256 for name, sha256 in digests.items() if sha256 is not None}}


def _marked(table: pa.Table, rows: CandidateRows, choice: Choice) -> pa.Table:
    """Return the scores with what became of every row in this choice: chosen, barred and why, its group."""
    chosen = np.zeros(table.num_rows, dtype=np.bool_)
    chosen[choice.rows] = True
    reason_of = dict.fromkeys(rows.excluded.tolist(), "excluded")
    reason_of |= dict.fromkeys(choice.selection.refused.tolist(), "max_per_image")
    copies = zip(rows.copies.tolist(), rows.copied.tolist(), strict=True)
    reason_of |= {row: f"duplicate_of:{of}" for row, of in copies}
    barred = np.zeros(table.num_rows, dtype=np.bool_)
    barred[list(reason_of)] = True
    skipped = pc.equal(table["status"], "skipped")
    reasons = pc.replace_with_mask(
        pc.if_else(skipped, table["reason"], None).combine_chunks(),  # those of a choice before are gone
        pa.array(barred),
        pa.array([reason_of[row] for row in sorted(reason_of)], pa.string()),
    )
    strata = pa.nulls(table.num_rows, pa.string()) if rows.stratum_of is None else rows.stratum_of
    columns = {"selected": pa.array(chosen), "reason": reasons, "stratum": strata}
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), values)
    return table


def _write_subset(pool: Pool | JoinedPool | None, table: pa.Table, rows: NDArray[np.int64], folder: Path) -> list[Path]:
    """Write the chosen records, or of a run without records the chosen rows, and return the paths of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    if pool is not None:
        return write_selected(pool, rows, folder)
    return [_write_rows(table, rows, folder / "selected.parquet")]


def _write_rows(table: pa.Table, rows: NDArray[np.int64], path: Path) -> Path:
    chosen = table.take(pa.array(rows)).select(_SUBSET_COLUMNS)
    publish_bytes(path, table_bytes(chosen.replace_schema_metadata(None)))
    return path

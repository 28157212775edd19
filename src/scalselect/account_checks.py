"""Every row is accounted for exactly once: sums that are checked in every run, wherever rows could be lost or doubled.

What is raised here is a fault of this program, never of data or options.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scalselect.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pyarrow as pa

    from scalselect.records import RowRecord
    from scalselect.shard_report import ShardReport


def check_shard(rows: Sequence[int], records: Sequence[RowRecord], vectors: int) -> None:
    """Raise WorkError unless records are those of the rows, scored ones have vectors, and skipped ones a reason.

    Parameters
    ----------
    rows
        Pool positions of the shard, ascending.
    vectors
        Number of representations.
    """
    found = [record.identity.row for record in records]
    if found != list(rows):
        missing, beyond = sorted(set(rows) - set(found)), sorted((Counter(found) - Counter(rows)).elements())
        told = f"missing rows: {missing[:5]}, too many: {beyond[:5]}"
        raise _wrong(f"a shard of {len(rows)} rows has records of {len(found)}; {told}")
    scored = sum(record.status == "scored" for record in records)
    if scored != vectors:
        raise _wrong(f"a shard has {scored} scored rows and {vectors} representations")
    for record in records:
        if (record.status == "skipped") != (record.reason is not None):
            raise _wrong(f"row {record.identity.row} is {record.status} with reason {record.reason}")


def check_not_told_twice(record: RowRecord, told: Mapping[int, RowRecord]) -> None:
    """Raise WorkError where a row has a record already."""
    row = record.identity.row
    if row in told:
        raise _wrong(f"row {row} was finished twice, as {told[row].status} and as {record.status}")


def check_reports(reports: Iterable[ShardReport], rows: range) -> None:
    """Raise WorkError unless shards follow one another without gap from the first of the rows to the last."""
    at = rows.start
    for report in sorted(reports, key=lambda report: report.start):
        if report.start != at:
            raise _wrong(f"shard {report.shard}, rows {report.start} to {report.stop}, follows row {at}")
        check_report(report, range(report.start, report.stop))
        at = report.stop
    if at != rows.stop:
        raise _wrong(f"shards end at row {at}, the rows at {rows.stop}")


def check_report(report: ShardReport, span: range) -> None:
    """Raise WorkError unless a report accounts for every row of its shard once."""
    name = f"shard {report.shard}, rows {report.start} to {report.stop},"
    if (report.start, report.stop) != (span.start, span.stop):
        raise _wrong(f"{name} is to hold rows {span.start} to {span.stop}")
    counted = sum(report.counts.values())
    if counted != len(span):
        raise _wrong(f"{name} counts {counted} rows: {report.counts}")
    if sum(report.reasons.values()) != report.counts.get("skipped", 0):
        raise _wrong(f"{name} has reasons {report.reasons} and counts {report.counts}")


def check_shards_complete(seen: Collection[int], shards: range) -> None:
    """Raise WorkError unless the shards that were seen are all there are."""
    missing = next((shard for shard in shards if shard not in seen), None)
    if missing is not None or len(seen) != len(shards):
        raise _wrong(f"{len(seen)} of {len(shards)} shards are accounted for; first missing: {missing}")


def check_scores(table: pa.Table) -> None:
    """Raise WorkError unless a table of scores has each row once, and score and rank for just those that are scored."""
    rows, scored = table.num_rows, pc.equal(table["status"], "scored")
    if not np.array_equal(table["row"].to_numpy(), np.arange(rows)):
        raise _wrong(f"a table of {rows} scores does not have each of its rows once, in order")
    counts = _counts(table["status"])
    if sum(counts.get(status, 0) for status in ("scored", "skipped", "text_only")) != rows:
        raise _wrong(f"statuses of {rows} rows: {counts}")
    number = counts.get("scored", 0)
    for name in ("leverage_score", "rank"):
        if not pc.all(pc.equal(pc.is_valid(table[name]), scored)).as_py() and rows:
            raise _wrong(f"{number} rows are scored, {rows - table[name].null_count} have a {name}, or other ones")
    ranks = np.sort(pc.drop_null(table["rank"]).to_numpy())
    if not np.array_equal(ranks, np.arange(1, number + 1)):
        raise _wrong(f"ranks of {number} scored rows are not 1 to {number}")


def check_account(account: Mapping[str, Any], table: pa.Table) -> None:
    """Raise WorkError unless the account of a choice tells of every row of the pool once, as the table has it.

    Parameters
    ----------
    account
        As `scalselect.selection_account.account_of` returns it.
    table
        Scores with what became of every row in this choice: `selected` and `reason`.
    """
    rows, barred, text_only = account["rows"], account["barred"], account["text_only"]
    sums = {
        "rows of the pool": (rows["pool"], rows["scored"] + rows["skipped"] + rows["text_only"]),
        "rows of the table": (rows["pool"], table.num_rows),
        "skipped rows": (rows["skipped"], sum(account["skipped"].values())),
        "scored rows": (rows["scored"], rows["eligible"] + barred["excluded"]),
        "eligible rows": (rows["eligible"], rows["candidates"] + barred["duplicate"]),
        "text-only rows": (rows["text_only"], text_only["rows"]),
        "selected rows": (rows["selected"], account["budget"]["rows"] + text_only["chosen"]),
        "rows selected in the table": (rows["selected"], pc.sum(table["selected"]).as_py() or 0),
    }
    # Second road: rows that nothing is told of, once by subtraction and once by looking at each.
    told = [rows["selected"], rows["skipped"], *barred.values(), text_only["excluded"]]
    untold = pc.and_(pc.invert(table["selected"]), pc.is_null(table["reason"]))
    sums["rows neither selected nor barred"] = (rows["pool"] - sum(told), pc.sum(untold).as_py() or 0)
    for name, (expected, found) in sums.items():
        if expected != found:
            raise _wrong(f"{name}: {expected} and {found}; rows {rows}, barred {barred}, text-only {text_only}")
    for name, (most, number) in {
        "candidates": (rows["candidates"], account["budget"]["rows"] + barred["max_per_image"]),
        "text-only rows": (text_only["rows"] - text_only["excluded"], text_only["chosen"]),
    }.items():
        if number > most:
            raise _wrong(f"{number} of {most} {name} were chosen")


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def _wrong(told: str) -> WorkError:
    return WorkError(f"internal account does not add up, which is a fault of scalselect: {told}")

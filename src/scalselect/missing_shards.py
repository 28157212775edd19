"""Represent the shards that are missing: failed ones are tried again and counted, too many skipped rows end it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalselect.engines.local import run_tasks
from scalselect.errors import DataChangedError, MisuseError, ShardError, TooManySkippedError, WorkError
from scalselect.shard_sharing import shared_shards

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from scalselect.claims import Claims
    from scalselect.joined_work import JoinedWork
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.shard_work import ShardWork

_ROWS_BEFORE_JUDGING_SKIPS = 1000


def represent_missing(
    work: ShardWork | JoinedWork, shards: range, max_skipped: Decimal, progress: Progress, claims: Claims
) -> list[ShardReport]:
    """Represent those of some shards that are not published yet; return the reports of all of them, in order.

    Parameters
    ----------
    shards
        Those of the pool that `work` is about.
    max_skipped
        Highest percentage of these shards' rows, text-only ones left out, that may be skipped.
    claims
        Those of the run folder, by which processes share the shards.

    Raises
    ------
    TooManySkippedError
        If more rows were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    store = work.store
    reports = {shard: store.report(shard) for shard in shards if store.is_published(shard)}
    skips = _SkipLimit(max_skipped, reports.values(), store)
    finished = sum(report.stop - report.start for report in reports.values())
    progress.start(len(work), finished, sum(report.counts.get("skipped", 0) for report in reports.values()))
    failed: dict[int, Exception] = {}
    adopted = 0

    def adopt_or_represent(shard: int) -> ShardReport:
        nonlocal adopted
        if not store.is_published(shard):
            return work(shard)
        report = store.report(shard)
        adopted += 1
        for status, number in report.counts.items():
            for _ in range(number):
                progress.row(status)
        return report

    tasks = shared_shards([shard for shard in shards if shard not in reports], store, claims, progress.say)
    try:
        outcomes = run_tasks(
            tasks,
            adopt_or_represent,
            # A single sample too large for the memory is as large the next time.
            worth_retrying=lambda error: not isinstance(error, ShardError),
            fatal=(MisuseError, DataChangedError, OSError),
        )
        for outcome in outcomes:
            if outcome.result is None:
                failed[outcome.task] = outcome.error or WorkError("unknown")
                progress.say(f"shard {outcome.task} failed after {outcome.attempts} attempts: {outcome.error}")
            else:
                reports[outcome.task] = outcome.result
                skips.count(outcome.result)
                skips.check(at_end=False)
    finally:
        tasks.close()
        progress.stop()
    if adopted:
        progress.say(f"{adopted} of these shards were represented by other processes")
    if failed:
        first = min(failed)
        raise WorkError(
            f"{len(failed)} of {len(shards)} shards failed (first: shard {first}, {failed[first]}); what was "
            "represented is kept, and the same command tries the failed shards again"
        ) from failed[first]
    skips.check(at_end=True)
    return [reports[shard] for shard in shards]


TOO_MANY_REMEDY = (
    "What was represented is kept: repeat the command with a higher --max-skipped, or mend the data and begin in "
    "another folder"
)


class _SkipLimit:
    """Counts skipped rows and stops a run that skips too many: its data are probably not where it looks for them."""

    def __init__(self, highest: Decimal, reports: Iterable[ShardReport], store: RepresentationStore) -> None:
        self._highest = highest
        self._store = store
        self._example: str | None = None
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        for report in reports:
            self.count(report)

    def count(self, report: ShardReport) -> None:
        self._counts.update(report.counts)
        self._reasons.update(report.reasons)
        if self._example is None and report.reasons:
            details = self._store.rows(report.shard, ["row", "detail"]).to_pylist()
            self._example = next(f"row {item['row']}: {item['detail']}" for item in details if item["detail"])

    def check(self, *, at_end: bool) -> None:
        """Raise TooManySkippedError where the share of skipped rows, among rows not text-only, is too high."""
        skipped = self._counts["skipped"]
        seen = skipped + self._counts["scored"]
        if seen == 0 or (seen < _ROWS_BEFORE_JUDGING_SKIPS and not at_end) or skipped * 100 <= self._highest * seen:
            return
        commonest = ", ".join(f"{reason} {number:,}" for reason, number in self._reasons.most_common(3))
        raise TooManySkippedError(
            f"{skipped:,} of {seen:,} rows (text-only ones left out) were skipped, {100 * skipped / seen:.1f}%: more "
            f"than --max-skipped {self._highest}% allows. Commonest reasons: {commonest}; for example {self._example}. "
            f"All are told in {self._store.folder}/*.rows.parquet, column `detail`. {TOO_MANY_REMEDY}"
        )

"""What became of the shards of a run, added up as their reports come, in any order: no report is kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalselect.account_checks import check_report, check_shards_complete

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalselect.shard_report import ShardReport


class ShardTotals:
    """Sums over the reports of some shards.

    Parameters
    ----------
    shards
        Numbers of the shards that there are to be.
    span_of
        Returns the rows, or places, that a shard is to hold.

    Attributes
    ----------
    rows
        Number of rows of the shards so far.
    counts, reasons
        Rows by status, skipped rows by reason.
    seconds
        Seconds of work by stage.
    """

    def __init__(self, shards: range, span_of: Callable[[int], range]) -> None:
        self.shards = shards
        self._span_of = span_of
        self._seen: set[int] = set()
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    def __contains__(self, shard: int) -> bool:
        return shard in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, report: ShardReport) -> None:
        """Add the report of a shard; one that was added before is not counted again.

        Raises
        ------
        WorkError
            If it does not account for every row of the shard once.
        """
        if report.shard in self._seen:
            return
        check_report(report, self._span_of(report.shard))
        self._seen.add(report.shard)
        self.rows += report.stop - report.start
        self.counts.update(report.counts)
        self.reasons.update(report.reasons)
        for stage, seconds in report.seconds.items():
            self.seconds[stage] += seconds  # type: ignore[assignment]  # a Counter of float

    def check_complete(self) -> None:
        """Raise WorkError unless every shard was added."""
        check_shards_complete(self._seen, self.shards)

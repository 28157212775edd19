"""Represent the shards that are missing: failed ones are tried again and counted, too many skipped rows end it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from scalselect.errors import TooManySkippedError, WorkError
from scalselect.shard_totals import ShardTotals
from scalselect.shard_worker import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Sequence
    from decimal import Decimal

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.engines.outcomes import Outcome
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.run_folder import RunFolder
    from scalselect.segments import Segment
    from scalselect.shard_worker import Finished, ModelFacts, ModelOfRun

_ROWS_BEFORE_JUDGING_SKIPS = 1000
_SECONDS_BETWEEN_LOOKS = 5.0  # at what other processes have published


class Workforce(Protocol):
    """Whoever represents shards: this process, or several."""

    tells_rows: bool  # whether finished rows are counted one by one as they come, or shard by shard
    shows_others: bool  # whether progress is that of a job of which others do a part

    @property
    def number(self) -> int:
        """How many work at once."""

    @property
    def facts(self) -> ModelFacts:
        """What the run must know of the model."""

    def open(self, named: Sequence[tuple[Segment, Pool]]) -> None:
        """Take on the shards of some segments."""

    def model_of(self, folder: RunFolder, model: Any, config: RepresentConfig, processor: Any) -> ModelOfRun:
        """Return the model, for what comes later in the call."""

    def in_order(self, shards: Collection[int], store: RepresentationStore) -> Iterable[int]:
        """Return the missing shards in the order in which they are to be taken."""

    def outcomes(self, shards: Iterable[int]) -> Iterator[Outcome[int, Finished | Elsewhere]]:
        """Yield the outcome of every shard, as they come; what concerns all of them is raised."""

    def tell_workers(self, progress: Progress) -> None:
        """Tell how many workers live, where there are several."""


def represent_missing(
    force: Workforce, folder: RunFolder, segments: list[Segment], max_skipped: Decimal, progress: Progress
) -> ShardTotals:
    """Represent those shards of some segments that are not published yet; return what became of all of them.

    Parameters
    ----------
    segments
        One after the other; those that `force` has opened.
    max_skipped
        Highest percentage of these segments' rows, text-only ones left out, that may be skipped.

    Raises
    ------
    TooManySkippedError
        If more rows were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    store = folder.store
    totals = totals_of(store, segments)
    skips = _SkipLimit(max_skipped, totals, store)
    rows = segments[-1].stop_row - segments[0].first_row
    progress.start(rows, totals.rows, totals.counts["skipped"])
    failed: dict[int, Exception] = {}
    adopting = _Adopting(totals, store, progress)
    left: Iterable[int] = force.in_order([shard for shard in totals.shards if shard not in totals], store)
    waiting = _Waiting(progress)
    try:
        while True:
            waiting.begin_round()
            for outcome in force.outcomes(left):
                force.tell_workers(progress)
                result = outcome.result
                if result is None:
                    failed[outcome.task] = outcome.error or WorkError("unknown")
                    progress.say(f"shard {outcome.task} failed after {outcome.attempts} attempts: {outcome.error}")
                elif isinstance(result, Elsewhere):
                    waiting.put_off(outcome.task, result)
                else:
                    waiting.moved = True
                    adopting.take(result, told=force.tells_rows)
                    skips.count(result.report)
                    skips.check(at_end=False)
                if force.shows_others:
                    adopting.look()
            if not waiting.put_off_now:
                break
            left = list(waiting.put_off_now)
            if not waiting.moved:
                folder.claims.pause()
        adopting.rest(failed)
    finally:
        progress.stop()
    if adopting.number:
        progress.say(f"{adopting.number} of these shards were represented by other processes")
    _raise_failures(failed, len(totals.shards))
    skips.check(at_end=True)
    totals.check_complete()
    return totals


def _raise_failures(failed: dict[int, Exception], number: int) -> None:
    if failed:
        first = min(failed)
        raise WorkError(
            f"{len(failed)} of {number} shards failed (first: shard {first}, {failed[first]}); what was represented is "
            "kept, and the same command tries the failed shards again"
        ) from failed[first]


def totals_of(store: RepresentationStore, segments: list[Segment]) -> ShardTotals:
    """Return what became of those shards of some segments, one after the other, that are published."""
    spans = [(segment.shards, segment) for segment in segments]
    totals = ShardTotals(
        range(segments[0].first_shard, segments[-1].shards.stop),
        lambda shard: next(segment for shards, segment in spans if shard in shards).span(shard),
    )
    for report in store.reports(sorted(store.files.published(totals.shards))):
        totals.add(report)
    return totals


class _Adopting:
    """Shards that other processes have published: counted for the whole job's progress, and in the end all of them."""

    def __init__(self, totals: ShardTotals, store: RepresentationStore, progress: Progress) -> None:
        self._totals = totals
        self._store = store
        self._progress = progress
        self._looked = time.monotonic()
        self.number = 0

    def take(self, found: Finished, *, told: bool) -> None:
        """Count a shard that was handed out here; `told` where its rows were counted as they came."""
        if found.report.shard in self._totals:  # seen already, among those of others
            return
        self.number += found.adopted
        self._totals.add(found.report)
        if found.adopted or not told:
            self._progress.rows(found.report.counts)

    def look(self) -> None:
        """Count what was published meanwhile, every few seconds: folders are listed."""
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self.rest(())
            self._looked = time.monotonic()

    def rest(self, failed: Container[int]) -> None:
        """Count every shard that is published and was not counted, but those that failed here."""
        if len(self._totals) == len(self._totals.shards):
            return
        published = self._store.files.published(self._totals.shards)
        others = sorted(shard for shard in published if shard not in self._totals and shard not in failed)
        for report in self._store.reports(others):
            self._totals.add(report)
            self._progress.rows(report.counts)
        self.number += len(others)


class _Waiting:
    """Shards that other processes are at: taken up again when all others are done, told of once nothing else is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: dict[int, str] = {}
        self._rounds = 0
        self.put_off_now: dict[int, str] = {}
        self.moved = False

    def begin_round(self) -> None:
        self._rounds += 1
        self.put_off_now = {}
        self.moved = False

    def put_off(self, shard: int, elsewhere: Elsewhere) -> None:
        self.put_off_now[shard] = elsewhere.holder
        if self._rounds > 1 and self._told.get(shard) != elsewhere.holder:
            self._progress.say(f"waiting: shard {shard} is being represented by {elsewhere.holder}")
            self._told[shard] = elsewhere.holder


TOO_MANY_REMEDY = (
    "What was represented is kept: repeat the command with a higher --max-skipped, or mend the data and begin in "
    "another folder"
)


class _SkipLimit:
    """Stops a run that skips too many rows: its data are probably not where it looks for them."""

    def __init__(self, highest: Decimal, totals: ShardTotals, store: RepresentationStore) -> None:
        self._highest = highest
        self._totals = totals
        self._store = store
        self._example: str | None = None

    def count(self, report: ShardReport) -> None:
        """Keep an example of a row that was skipped."""
        if self._example is None and report.reasons:
            details = self._store.rows(report.shard, ["row", "detail"]).to_pylist()
            self._example = next(f"row {item['row']}: {item['detail']}" for item in details if item["detail"])

    def check(self, *, at_end: bool) -> None:
        """Raise TooManySkippedError where the share of skipped rows, among rows not text-only, is too high."""
        counts, reasons = self._totals.counts, self._totals.reasons
        skipped = counts["skipped"]
        seen = skipped + counts["scored"]
        if seen == 0 or (seen < _ROWS_BEFORE_JUDGING_SKIPS and not at_end) or skipped * 100 <= self._highest * seen:
            return
        if self._example is None:  # of a shard that an earlier call represented
            shard = next(shard for shard in self._totals.shards if self._store.report(shard).reasons)
            self.count(self._store.report(shard))
        commonest = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common(3))
        raise TooManySkippedError(
            f"{skipped:,} of {seen:,} rows (text-only ones left out) were skipped, {100 * skipped / seen:.1f}%: more "
            f"than --max-skipped {self._highest}% allows. Commonest reasons: {commonest}; for example {self._example}. "
            f"All are told in {self._store.folder}/*.rows.parquet, column `detail`. {TOO_MANY_REMEDY}"
        )

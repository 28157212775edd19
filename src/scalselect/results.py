"""What the functions of the Python API return, and how it is read from a run folder: facts about finished work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.result_view import html_of_result, line_of_result
from scalselect.row_tables import table_from_bytes
from scalselect.time_shares import waiting_share, work_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import DominantSubspace
    from scalselect.run_folder import RunFolder
    from scalselect.segments import Segment
    from scalselect.shard_totals import ShardTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class Represented:
    """What stage 1 has done for a run so far.

    Attributes
    ----------
    rows
        Rows of the pool that went through stage 1.
    counts, reasons
        Rows by status, skipped rows by reason.
    seconds
        Seconds of work by stage, summed over all shards, also those of earlier calls; see `scalselect.time_shares` for
        which of them overlap.
    pool_rows
        Rows of the whole data set; more than `rows` in a trial (`limit`).
    workers
        How many worked at once, in this call.
    """

    folder: Path
    rows: int
    counts: dict[str, int]
    reasons: dict[str, int]
    seconds: dict[str, float]
    pool_rows: int
    workers: int = 1

    @property
    def rows_per_second(self) -> float:
        """Rows a second of so many workers: those a second of work of one, as measured, times their number."""
        return self.workers * self.rows / max(work_seconds(self.seconds), 1e-9)

    @property
    def waiting_share(self) -> float | None:
        """Share of the work in which the model waited for samples; None where that is not known."""
        return waiting_share(self.seconds)

    @property
    def seconds_for_all(self) -> float:
        """Estimated seconds that so many workers take for the whole data set."""
        return self.pool_rows / self.rows_per_second


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RunResult:
    """The outcome of a run.

    Attributes
    ----------
    folder
        The run folder.
    rows
        Chosen row positions, ascending, int64 [chosen].
    scores
        Leverage score of every pool row, float64 [pool]; NaN where a row has none.
    summary
        The content of `selection.json`.
    represented
        What stage 1 did; None where only selection was asked for.
    budgets
        Where several budgets were asked for: the chosen rows of the second one and on, by budget as it was given.
    """

    folder: Path
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    summary: dict[str, Any]
    represented: Represented | None = None
    budgets: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return line_of_result(self.folder, *self._counts, self.summary)

    def _repr_html_(self) -> str:
        """Return the run as a small table: what a notebook shows of it."""
        return html_of_result(self.folder, *self._counts, self.summary)

    @property
    def _counts(self) -> tuple[int, int, int]:
        return len(self.rows), int(np.count_nonzero(np.isfinite(self.scores))), len(self.scores)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Extended:
    """What became of data files that were added to a run.

    Attributes
    ----------
    folder
        The run folder.
    segments
        The segments of the run that the call named: which rows of the pool they are, and where they came from.
    known_before
        Those of them that the run had already when it was called.
    represented
        What stage 1 did for their rows.
    subspace
        Of all rows; None where the run has no scores.
    selected
        The choice among all rows; None where the run has none.
    """

    folder: Path
    segments: tuple[Segment, ...]
    known_before: tuple[Segment, ...]
    represented: Represented
    subspace: DominantSubspace | None
    selected: RunResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written of a subset in another form.

    Attributes
    ----------
    files
        The files of records, in order.
    records
        Number of records in them.
    images
        Number of images that were copied, into the file or beside it.
    left_out
        Records of the subset that the trainer could not be given, by reason.
    """

    files: tuple[Path, ...]
    records: int
    images: int
    left_out: dict[str, int]


def represented_of(
    folder: RunFolder, totals: Sequence[ShardTotals], pool_rows: int, *, workers: int = 1
) -> Represented:
    """Return what stage 1 has done for some shards, with so many workers at once in this call."""

    def summed(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = sorted({name for group in groups for name in group})
        return {name: sum(group.get(name, 0) for group in groups) for name in names}

    return Represented(
        folder=folder.path,
        rows=sum(part.rows for part in totals),
        counts=summed([part.counts for part in totals]),
        reasons=summed([part.reasons for part in totals]),
        seconds=summed([part.seconds for part in totals]),
        pool_rows=pool_rows,
        workers=workers,
    )


def result_of(folder: RunFolder, summary: dict[str, Any], represented: Represented | None) -> RunResult:
    """Return the outcome of a run whose `selection.json` holds this summary."""
    table = folder.read_scores()
    return RunResult(
        folder=folder.path,
        rows=np.flatnonzero(table["selected"].to_numpy(zero_copy_only=False)).astype(np.int64),
        scores=table["leverage_score"].to_numpy(zero_copy_only=False),
        summary=summary,
        represented=represented,
        budgets={
            budget["asked"]: table_from_bytes(
                (folder.selections / budget["asked"] / "rows.parquet").read_bytes(), ["row"]
            )["row"].to_numpy()
            for budget in summary["budgets"][1:]
        },
    )

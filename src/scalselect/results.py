"""What the functions of the Python API return: facts about finished work, no computing but of rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


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
        Seconds of work by stage, summed over all shards, also those of earlier calls.
    pool_rows
        Rows of the whole data set; more than `rows` in a trial (`limit`).
    """

    folder: Path
    rows: int
    counts: dict[str, int]
    reasons: dict[str, int]
    seconds: dict[str, float]
    pool_rows: int

    @property
    def rows_per_second(self) -> float:
        """Rows a second of work."""
        return self.rows / max(sum(self.seconds.values()), 1e-9)

    @property
    def seconds_for_all(self) -> float:
        """Estimated seconds of work for the whole data set."""
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

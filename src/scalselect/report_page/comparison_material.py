"""What the page of two runs is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.comparison import Comparison
    from scalselect.report_page.material import ShownSample


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is told of one of the two runs, before they are compared.

    Attributes
    ----------
    folder
        Where it lies.
    model
        Which model represented it; None for vectors made elsewhere.
    created
        When it was begun, as `run.json` has it; None where that is not known.
    scored
        Number of rows that have a score.
    budget
        What was asked for; None where nothing was selected.
    strategy
        How rows were chosen; None where nothing was selected.
    """

    folder: str
    model: str | None
    created: str | None
    scored: int
    budget: str | None
    strategy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInBoth:
    """A row that only one of the two runs chose.

    Attributes
    ----------
    row, source, id
        Pool position, data set, and the id of the record; None where it has none.
    score, rank
        In the run that chose it.
    other_score, other_rank
        In the other one; None where it has no score there.
    other_reason
        A word of the vocabulary of reasons: why the other run could not choose it; None where it could have.
    """

    row: int
    source: str
    id: str | None
    score: float
    rank: int
    other_score: float | None
    other_rank: int | None
    other_reason: str | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ComparisonMaterial:
    """Two runs of the same rows.

    Attributes
    ----------
    comparison
        What was measured.
    runs
        Facts of A and B.
    places
        Place of every row scored in both in the falling order of its score, from 0, in A and in B; equal scores in
        pool order, int64 [2, both].
    only
        Rows that A alone chose, and that B alone chose, best rank first: those that are shown.
    only_rows
        How many there are of each, shown or not.
    samples
        What is seen of the shown rows, where their records could be read.
    no_samples
        Why they could not, in words; None where they could.
    """

    comparison: Comparison
    runs: tuple[RunFacts, RunFacts]
    places: NDArray[np.int64]
    only: tuple[tuple[RowInBoth, ...], tuple[RowInBoth, ...]]
    only_rows: tuple[int, int]
    samples: Mapping[int, ShownSample]
    no_samples: str | None

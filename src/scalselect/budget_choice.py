"""What one budget chooses: rows by their scores, and text-only rows on top of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.errors import BudgetError
from scalselect.selection.budget import rows_to_choose
from scalselect.selection.selecting import select_rows
from scalselect.selection.text_only import choose_text_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.candidate_rows import CandidateRows, ScoredRun
    from scalselect.config import SelectConfig
    from scalselect.records import Budget, Selection


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The choice of one budget.

    Attributes
    ----------
    budget
        As it was asked for.
    selection
        The rows that fill it, all of which have a score.
    text_only
        Text-only rows on top of it, ascending, int64 [text-only].
    """

    budget: Budget
    selection: Selection
    text_only: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows of the subset, ascending, int64 [chosen]."""
        return np.union1d(self.selection.rows, self.text_only)


def choose(run: ScoredRun, rows: CandidateRows, config: SelectConfig, budget: Budget) -> Choice:
    """Choose the rows of a budget. Raises BudgetError, naming a budget that would do where there is one."""
    try:
        selection = select_rows(
            rows.candidates,
            rows_to_choose(budget, len(rows.eligible)),
            strategy=config.strategy,
            strata=rows.strata,
            quotas=rows.quotas,
            included=rows.included,
            images=rows.images,
            max_per_image=config.max_per_image,
        )
    except BudgetError as error:
        if error.possible is None:
            raise
        other = "" if config == type(config)(budget=config.budget) else " with its other options"
        remedy = f"`scalselect select {shlex.quote(str(run.folder.path))} --budget {error.possible}`{other}"
        raise BudgetError(f"{error}; scores are kept, this would do: {remedy}", error.possible) from error
    text_only = choose_text_only(
        rows.text_only,
        config.text_only,
        budget=budget,
        eligible=len(rows.eligible),
        seed=config.seed,
        pool_rows=run.table.num_rows,
    )
    return Choice(budget, selection, text_only)

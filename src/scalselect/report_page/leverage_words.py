"""What curves of leverage say, in sentences: how scores fall, and what the rows of a budget hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scalselect.report_page.number_words import counted, number, percent, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scalselect.report_page.budget_shares import BudgetShare
    from scalselect.report_page.leverage_curve import LeverageCurve

_NO_CHOICE = 0.16  # a budget to speak of where none was asked for: the paper's
_FEW = 0.01  # of the rows
_MOST = 0.5  # of the leverage
_STEEP, _GENTLE = 3.0, 1.5  # of the score a tenth of the way down to the median


def few_hold_most(scores: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return how few rows hold more than half of all leverage, and their share; None unless one or a hundredth does."""
    falling = np.sort(scores)[::-1]  # [scored]
    for rows in dict.fromkeys((1, max(1, int(_FEW * falling.size)))):
        share = float(falling[:rows].sum() / falling.sum())
        if share > _MOST:
            return rows, min(share, 1.0)
    return None


def words_of_held(curve: LeverageCurve, budgets: Sequence[BudgetShare]) -> str:
    """Return what budgets hold, and whether the chosen rows hold what the best ones would."""
    rows = budgets[0].rows if budgets else max(1, int(_NO_CHOICE * curve.scores.size))
    best = curve.held_by(rows)
    share = rows / curve.scores.size
    words = f"The best {percent(share)} of the rows hold {percent(best)} of the leverage"
    words += f", {times(best / share)} what a random choice would." if rows < curve.scores.size else "."
    for place, budget in enumerate(budgets):
        if budget.held is None or not is_not_the_best(curve, budget):
            continue
        best_of_it = percent(curve.held_by(budget.rows))
        whose = f"for {budget.asked} hold {percent(budget.held)}; as many of the best would hold {best_of_it}."
        first = f", which are not simply the best, hold {percent(budget.held)}."
        words += f" The rows chosen {whose}" if place else f" The chosen rows{first}"
    half = curve.rows_holding(0.5)
    return f"{words} Half of it takes {percent(half / curve.scores.size)} ({counted(half, 'row')})."


def is_not_the_best(curve: LeverageCurve, budget: BudgetShare) -> bool:
    """Tell whether the rows chosen for a budget hold, in words, other than as many rows of highest score."""
    return budget.held is not None and percent(budget.held) != percent(curve.held_by(budget.rows))


def words_of_spread(curve: LeverageCurve) -> str:
    """Return how the highest score stands to the mean."""
    mean, highest = float(curve.scores.mean()), float(curve.scores[0])
    low = int(np.count_nonzero(curve.scores < 0.01 * mean))
    words = f"The highest score is {number(highest)}, {times(highest / mean)} the mean of {number(mean)}."
    lie = "lies" if low == 1 else "lie"
    return words + (f" {counted(low, 'row')} {lie} below a hundredth of the mean." if low else "")


def words_of_sorted(curve: LeverageCurve) -> str:
    """Return how scores fall from the highest to the lowest, all of them looked at."""
    tenth = max(1, curve.scores.size // 10)
    highest, lowest = float(curve.scores[0]), float(curve.scores[-1])
    top, median = float(curve.scores[tenth - 1]), float(np.median(curve.scores))
    if median <= 0.0:
        return "More than half of the rows have no leverage at all."
    few = few_hold_most(curve.scores)
    if few is not None:
        who = "One row stands" if few[0] == 1 else f"{few[0]:,} rows stand"
        return f"{who} far above all others: the highest score is {times(highest / median)} the median."
    told = f"the row a tenth of the way down has {times(top / median)} the median score"
    if top > _GENTLE * median:
        return f"Scores fall {'steeply' if top > _STEEP * median else 'gently'}: {told}."
    if highest <= _STEEP * median and lowest >= median / _STEEP:
        return f"Scores are nearly alike: {told}."
    ends = []
    if highest > _STEEP * median:
        ends.append(f"the highest is {times(highest / median)} the median")
    if lowest < median / _STEEP:
        ends.append(f"the median is {times(median / lowest)} the lowest" if lowest else "the lowest is 0")
    return f"Most scores are alike, those at the ends are not: {' and '.join(ends)}."

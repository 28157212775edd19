"""Leverage: how scores are spread, where the cut lies, and what another budget would hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scalselect.report_page.budget_shares import budget_shares
from scalselect.report_page.encoded_arrays import encoded
from scalselect.report_page.figures import Axis, Drawing, Scale, two_sizes
from scalselect.report_page.leverage_curve import leverage_curve
from scalselect.report_page.leverage_words import is_not_the_best, words_of_held, words_of_sorted, words_of_spread
from scalselect.report_page.number_words import counted, number, percent
from scalselect.report_page.page import Section
from scalselect.report_page.shown_rows import passed_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from numpy.typing import NDArray

    from scalselect.report_page.budget_shares import BudgetShare
    from scalselect.report_page.leverage_curve import LeverageCurve
    from scalselect.report_page.material import Material

_BINS = 40
_WIDE_RANGE = 30.0  # of the highest score to the median: from there on scores are shown by ratios
_TALL = 100.0  # of the tallest bar to a usual one: from there on counts are shown by ratios
_LOWEST_SHOWN = 1e-5  # of the highest score: below it bars would be many and say nothing
_LOW_DOWN = 6  # lines below the top, where the curve leaves room for words


def leverage_section(material: Material) -> Section:
    """Return the section on scores."""
    budgets = budget_shares(material)
    curve = leverage_curve(material.table, [budget.rows for budget in budgets])
    counts, chosen, edges = _histogram(curve, _cut(material))
    return Section(
        name="leverage",
        title="Leverage",
        content={
            "held": words_of_held(curve, budgets),
            "held_figure": _figure_of_held(curve, budgets),
            "choices": _choices(curve, budgets),
            "spread": words_of_spread(curve),
            "histogram": _figure_of_histogram(counts, chosen, edges, _cut(material)),
            "sorted": words_of_sorted(curve),
            "sorted_figure": _figure_of_sorted(curve, budgets),
            "steps": _steps(curve),
            "rows": curve.scores.size,
            "points": curve.ranks.size,
            "start": int(np.searchsorted(curve.ranks, budgets[0].rows if budgets else curve.scores.size // 10)),
            "decided": material.selection is not None,
        },
        data={
            "rows": curve.scores.size,
            "ranks": encoded(curve.ranks.astype(np.uint32)),
            "held": encoded(curve.held),
            "scores": encoded(curve.at_ranks),
            "edges": encoded(edges),
            "counts": encoded(counts.astype(np.uint32)),
            "chosen": encoded(chosen.astype(np.uint32)),
        },
    )


def _cut(material: Material) -> float | None:
    """Return the lowest chosen score; None where rows above it were passed over, so that it cuts nothing."""
    if passed_over(material.table):
        return None
    lowest = None if material.selection is None else material.selection["selected"]["lowest_score"]
    return None if lowest is None or not math.isfinite(lowest) else float(lowest)


def _steps(curve: LeverageCurve) -> list[dict[str, str]]:
    """Return the curve as a table: what round budgets hold."""
    rows = curve.scores.size
    shares = (0.01, 0.02, 0.05, 0.1, 0.16, 0.2, 0.3, 0.5, 0.75, 1.0)
    wanted = sorted({max(1, int(share * rows + 1e-9)) for share in shares})
    return [
        {
            "share": percent(count / rows),
            "rows": f"{count:,}",
            "held": percent(curve.held_by(count)),
            "score": number(float(curve.scores[count - 1])),
        }
        for count in wanted
    ]


def _histogram(
    curve: LeverageCurve, cut: float | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return rows and chosen rows of each bin, int64 [bins], and the bins' edges, float64 [bins + 1]."""
    highest, median = float(curve.scores[0]), float(np.median(curve.scores))
    if highest > _WIDE_RANGE * median:
        lowest = max(float(curve.scores[-1]), highest * _LOWEST_SHOWN)
        edges = np.geomspace(lowest, highest, _BINS + 1)
    else:
        edges = np.linspace(min(0.0, float(curve.scores[-1])), highest, _BINS + 1)
    edges[-1] = highest
    if cut is not None and edges[0] < cut < highest:  # an edge at the cut: no bar stands on both sides of it
        edges[1 + np.argmin(np.abs(edges[1:-1] - cut))] = cut
    inside = np.clip(curve.scores, edges[0], None)  # what is lower counts in the first bin
    counts = np.histogram(inside, edges)[0].astype(np.int64)
    return counts, np.histogram(inside[curve.chosen], edges)[0].astype(np.int64), edges


def _figure_of_histogram(
    counts: NDArray[np.int64], chosen: NDArray[np.int64], edges: NDArray[np.float64], cut: float | None
) -> Markup:
    low, high = float(edges[0]), float(edges[-1])
    by_ratio = low > 0 and not math.isclose(edges[1] - edges[0], edges[-1] - edges[-2], rel_tol=0.5)
    tallest, usual = int(counts.max()), float(np.median(counts[counts > 0]))
    log_counts = tallest > _TALL * usual
    y = Axis(
        scale=Scale(0.8, tallest * 1.3, log=True) if log_counts else Scale(0, tallest * 1.08),
        name="rows" + (" (by ratios)" if log_counts else ""),
        words=lambda value: f"{value:,.0f}" if value == int(value) else "",
        ticks=4,
    )
    x = Axis(
        scale=Scale(low, high, log=by_ratio), name="score" + (" (by ratios)" if by_ratio else ""), words=number, ticks=5
    )

    def draw(width: int, height: int) -> Drawing:
        drawing = Drawing(width, height, x, y)
        for count, some, left, right in zip(counts.tolist(), chosen.tolist(), edges[:-1], edges[1:], strict=True):
            words = f"score {number(float(left))} to {number(float(right))}: {counted(count, 'row')}, {some:,} chosen"
            if count > some:
                drawing.bar(float(left), float(right), count, "others", words)
            if some:
                drawing.bar(float(left), float(right), some, "chosen", words)
        if cut is not None:
            drawing.upright(cut, f"lowest chosen {number(cut)}")
        return drawing

    told = "" if cut is None else f" The lowest chosen score is {number(cut)}."
    return two_sizes(
        "histogram",
        "How many rows have which score",
        f"Bars of {len(counts)} ranges of scores from {number(low)} to {number(high)}; the tallest holds "
        f"{counted(tallest, 'row')}.{told}",
        draw,
    )


def _choices(curve: LeverageCurve, budgets: Sequence[BudgetShare]) -> list[str]:
    """Return what the chosen rows of every budget hold; nothing where they hold what the best would."""
    if not any(is_not_the_best(curve, budget) for budget in budgets):
        return []
    return [f"for {budget.asked}: {percent(budget.held)} held" for budget in budgets if budget.held is not None]


def _best_words(curve: LeverageCurve, budget: BudgetShare) -> str:
    """Return the label of a budget on the curve, which says what its best rows would hold, whatever was chosen."""
    of_all = percent(budget.rows / curve.scores.size) if budget.asked.endswith("%") else budget.asked
    hold = "holds" if budget.asked == "1 row" else "hold"
    return f"the best {of_all} {hold} {percent(curve.held_by(budget.rows))}"


def _figure_of_held(curve: LeverageCurve, budgets: Sequence[BudgetShare]) -> Markup:
    rows = curve.scores.size
    share = Axis(scale=Scale(0.0, 1.0), name="budget, share of the scored rows", words=percent, ticks=5)
    held_axis = Axis(scale=Scale(0.0, 1.0), name="leverage held", words=percent, ticks=5)

    def draw(width: int, height: int) -> Drawing:
        drawing = Drawing(width, height, share, held_axis)
        x, y = np.concatenate([[0.0], curve.ranks / rows]), np.concatenate([[0.0], curve.held])
        drawing.line([0.0, 1.0], [0.0, 1.0], "even")
        drawing.area(x, y, "leverage")
        drawing.line(x, y, "leverage")
        for budget in budgets:
            best, place = curve.held_by(budget.rows), budget.rows / rows
            drawing.upright(place, "")
            drawing.beside(place, best, _best_words(curve, budget))
            drawing.dot(place, best, "best", f"the best {counted(budget.rows, 'row')}: {percent(best)}")
            if budget.held is not None:
                words = f"the {counted(budget.rows, 'chosen row')}: {percent(budget.held)}"
                drawing.dot(place, budget.held, "chosen", words)
        return drawing

    points = "; ".join(_best_words(curve, budget) for budget in budgets)
    points += "".join(f"; the rows chosen {words}" for words in _choices(curve, budgets))
    return two_sizes(
        "held",
        "What share of the leverage a budget holds",
        f"A curve that rises from 0 % to 100 %; the dotted diagonal is a random choice. {points}",
        draw,
    )


def _figure_of_sorted(curve: LeverageCurve, budgets: Sequence[BudgetShare]) -> Markup:
    rows, scores = curve.scores.size, curve.at_ranks
    positive = scores[scores > 0]
    highest, lowest = float(scores[0]), max(float(positive[-1]), float(scores[0]) * _LOWEST_SHOWN)
    by_ratio = highest > _WIDE_RANGE * lowest
    x = Axis(scale=Scale(1, max(rows, 2), log=True), name="rank (by ratios)", words=lambda v: f"{v:,.0f}", ticks=6)
    scale = Scale(lowest, highest, log=True) if by_ratio else Scale(0.0, highest * 1.05)
    y = Axis(scale=scale, name="score" + (" (by ratios)" if by_ratio else ""), words=number, ticks=4)

    def draw(width: int, height: int) -> Drawing:
        drawing = Drawing(width, height, x, y)
        drawing.line(curve.ranks, scores, "leverage")
        for level, budget in enumerate(budgets):
            if 1 <= budget.rows <= rows:
                drawing.upright(budget.rows, budget.asked, _LOW_DOWN + level % 4)
        return drawing

    return two_sizes(
        "sorted",
        "Scores from the highest to the lowest",
        f"A falling curve over {counted(rows, 'row')}, from {number(highest)} to {number(float(scores[-1]))}.",
        draw,
    )

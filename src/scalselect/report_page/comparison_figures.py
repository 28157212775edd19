"""Figures of two runs beside one another: what both chose, ranks, agreement of the best rows, angles of subspaces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from scalselect.report_page.comparison_words import row_words
from scalselect.report_page.figures import Axis, Drawing, Scale
from scalselect.report_page.number_words import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVELS = 7
POINTS_DRAWN = 1_500  # of more rows a density is drawn
_PARTS = {"only-a": "A alone", "both": "both", "only-b": "B alone"}
_BAR = 1_000
_WIDE_FROM = 500
_CELLS_WIDE, _CELLS_NARROW = 54, 36
_CURVE_POINTS = 160
_SMALLEST_SHARE = 1e-3  # below it, one row of the best makes the curve leap
_MOST_DOTS = 60


def part_bar(parts: tuple[float, float, float], whole: float, words: str) -> Markup:
    """Return a bar in three parts: what A alone has, what both have, what B alone has.

    Parameters
    ----------
    parts
        Their sizes.
    whole
        What the full width stands for, so that several bars can be compared.
    words
        The text alternative.
    """
    left, drawn = 0.0, []
    for (kind, name), size in zip(_PARTS.items(), parts, strict=True):
        long = _BAR * size / whole
        drawn.append(
            Markup('<rect x="{:.1f}" y="0" width="{:.1f}" height="40" class="{}"><title>{}</title></rect>').format(
                left, max(long - 2, 0.0), kind, f"{name}: {row_words(size)}"
            )
        )
        left += long
    return Markup(
        '<svg class="parts" viewBox="0 0 {} 40" preserveAspectRatio="none" role="img" aria-label="{}">'
    ).format(_BAR, words) + Markup("{}</svg>").format(Markup("").join(drawn))


def rank_drawing(places: NDArray[np.int64], marked: tuple[int | None, int | None], width: int, height: int) -> Drawing:
    """Return the ranks of rows in A against those in B, the best at the lower left.

    Parameters
    ----------
    places
        Place of each row in A and in B, from 0, int64 [2, rows].
    marked
        How many rows each of the two chose, marked by a line; None where nothing was chosen.
    """
    rows = places.shape[1]
    axes = [
        Axis(scale=Scale(0.0, 1.0), name=f"rank in {run}, best first", words=percent, ticks=4) for run in ("A", "B")
    ]
    drawing = Drawing(width, height, *axes)
    if rows <= POINTS_DRAWN:
        x, y = drawing.place_x((places[0] + 0.5) / rows), drawing.place_y((places[1] + 0.5) / rows)
        drawing.path("".join(f"M{px:.1f} {py:.1f}h0" for px, py in zip(x, y, strict=True)), "points")
    else:
        cells = _CELLS_WIDE if width >= _WIDE_FROM else _CELLS_NARROW
        for level, outline in enumerate(_density_outlines(places, drawing, cells), 1):
            drawing.path(outline, f"density d{level}")
    if marked[0] is not None:
        drawing.upright(marked[0] / rows, "A's budget")
    if marked[1] is not None:
        drawing.across(marked[1] / rows, "B's budget")
    return drawing


def rank_counts(places: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    """Return how many rows lie in each cell of a square of ranks, int64 [cells of A, cells of B]."""
    at = np.minimum(places * cells // max(places.shape[1], 1), cells - 1)  # [2, rows]
    return np.bincount(at[0] * cells + at[1], minlength=cells * cells).reshape(cells, cells)


def _density_outlines(places: NDArray[np.int64], drawing: Drawing, cells: int) -> list[str]:
    """Return one outline for each level of density, in which neighbours side by side are one rectangle."""
    counts = rank_counts(places, cells)
    scale = LEVELS / math.log1p(int(counts.max()))
    levels = np.ceil(np.log1p(counts) * scale - 1e-9).astype(np.int64)  # [cells, cells]; 0 where no row lies
    edges = np.arange(cells + 1) / cells
    x, y = drawing.place_x(edges), drawing.place_y(edges)
    outlines: list[list[str]] = [[] for _ in range(LEVELS)]
    for line in range(cells):  # of equal rank in B
        along = levels[:, line]
        starts = np.flatnonzero(np.diff(along, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], cells], strict=True):
            if along[start]:
                outline = f"M{x[start]:.1f} {y[line + 1]:.1f}H{x[stop]:.1f}V{y[line]:.1f}H{x[start]:.1f}z"
                outlines[along[start] - 1].append(outline)
    return ["".join(parts) for parts in outlines]


def agreement_curve(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for several numbers of best rows, how many of them are the same in both runs; exact.

    Returns
    -------
    tuple
        The numbers, ascending, the last of them all rows, int64 [points]; the rows shared, int64 [points].
    """
    rows = places.shape[1]
    numbers = np.unique(np.rint(np.geomspace(1, rows, _CURVE_POINTS)).astype(np.int64))
    # A row is shared from the number on at which the worse of its two places is among the best.
    worse = np.sort(places.max(axis=0))
    return numbers, np.searchsorted(worse, numbers - 1, side="right").astype(np.int64)


def agreement_drawing(
    numbers: NDArray[np.int64],
    shared: NDArray[np.int64],
    marked: Sequence[tuple[float, float]],
    width: int,
    height: int,
) -> Drawing:
    """Return the share of the best rows that two runs have in common, against how many best rows are looked at.

    Parameters
    ----------
    numbers, shared
        See `agreement_curve`.
    marked
        Shares of rows and what is shared of them, marked by dots.
    """
    rows = int(numbers[-1])
    low = max(1 / rows, _SMALLEST_SHARE) if rows > 1 else 0.5
    x = Axis(scale=Scale(low, 1.0, log=True), name="best rows looked at (by ratios)", words=percent, ticks=6)
    drawing = Drawing(width, height, x, Axis(scale=Scale(0.0, 1.0), name="in common", words=percent, ticks=5))
    inside = numbers / rows >= low
    by_chance = np.geomspace(low, 1.0, 60)
    drawing.line(by_chance, by_chance, "even")
    drawing.line(numbers[inside] / rows, shared[inside] / numbers[inside], "leverage")
    for share, common in marked:
        if share >= low:
            drawing.dot(share, common, "chosen", f"of the best {percent(share)}, {percent(common)} in common")
    return drawing


def angle_drawing(angles: NDArray[np.float64], width: int, height: int) -> Drawing:
    """Return principal angles, smallest first, in degrees, float64 [angles]."""
    directions = Axis(scale=Scale(0.5, angles.size + 0.5), name="direction", words=_whole_words, ticks=6)
    degrees = Axis(scale=Scale(0.0, 90.0), name="angle in degrees", words=lambda v: f"{v:.0f}", ticks=5)
    drawing = Drawing(width, height, directions, degrees)
    at = np.arange(1, angles.size + 1)
    drawing.across(45.0, "half a right angle")
    drawing.line(at, angles, "leverage")
    for direction, angle in zip(at.tolist(), angles.tolist(), strict=True) if angles.size <= _MOST_DOTS else ():
        drawing.dot(direction, angle, "chosen", f"direction {direction:,}: {angle:.2f} degrees")
    return drawing


def _whole_words(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and float(value).is_integer() else ""

"""Figures of two runs beside one another, as SVG: what both chose, ranks, agreement of the best rows, angles.

Each is drawn for wide screens and for phones; the style sheet shows one of them, and has all colours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Draw = Callable[[int], Markup]

LEVELS = 7
BAR_HEIGHT = 82
_WHOLE_FROM = 1_000
POINTS_DRAWN = 1_500  # of more rows a density is drawn
_SIZES = {"wide": 540, "narrow": 340}
_CELLS = {540: 54, 340: 36}
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 26, 44
_PERCENT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHARE_TICKS = {540: (0.001, 0.01, 0.05, 0.16, 0.5, 1.0), 340: (0.001, 0.01, 0.05, 0.16, 1.0)}
_CURVE_POINTS = 160
_ANGLE_TICKS = (0, 15, 30, 45, 60, 75, 90)
_MOST_DOTS_APART = 60
_PART_WORDS = {"only-a": "A alone", "both": "both", "only-b": "B alone"}


def both_sizes(name: str, title: str, description: str, height: Callable[[int], int], draw: Draw) -> Markup:
    """Return a figure for wide screens and one for phones.

    Parameters
    ----------
    name
        Unique in the page; ids begin with it.
    title, description
        The text alternative.
    height, draw
        Height and content for a width, in units of about a pixel.
    """
    parts = []
    for size, width in _SIZES.items():
        told = Markup('<title id="{0}-t">{1}</title><desc id="{0}-d">{2}</desc>').format(
            f"{name}-{size}", title, description
        )
        parts.append(
            Markup(
                '<svg class="figure {0}" viewBox="0 0 {1} {2}" width="{1}" height="{2}" role="img" '
                'aria-labelledby="{3}-t {3}-d">{4}{5}</svg>'
            ).format(size, width, height(width), f"{name}-{size}", told, draw(width))
        )
    return Markup("").join(parts)


def overlap_bars(rows: Sequence[tuple[str, float, float, float]], width: int) -> Markup:
    """Return bars in three parts, one below the other: what only A has, what both have, what only B has.

    Parameters
    ----------
    rows
        Name of each bar and the sizes of its parts.
    """
    most = max(sum(parts) for _, *parts in rows)
    drawn = []
    for place, (name, *parts) in enumerate(rows):
        top = BAR_HEIGHT * place
        told = " · ".join(f"{row_words(size)} {words}" for size, words in zip(parts, _PART_WORDS.values(), strict=True))
        drawn += [_text(0, top + 14, name, "start", "words"), _text(0, top + 31, told, "start", "tick")]
        left = 0.0
        for kind, size in zip(_PART_WORDS, parts, strict=True):
            long = width * size / most
            words = Markup("<title>{}</title>").format(f"{_PART_WORDS[kind]}: {row_words(size)}")
            drawn.append(
                _element("rect", words, x=left, y=float(top + 38), width=max(long - 1, 0.0), height="26", class_=kind)
            )
            left += long
    return Markup("").join(drawn)


def rank_figure(places: NDArray[np.int64], marked: tuple[int | None, int | None], width: int) -> Markup:
    """Return the ranks of rows in A against those in B, the best at the lower left.

    Parameters
    ----------
    places
        Place of each row in A and in B, from 0, int64 [2, rows].
    marked
        How many rows each of the two chose, marked by a line; None where nothing was chosen.
    """
    rows = places.shape[1]
    plot = _Plot(width, width - _LEFT - _RIGHT + _TOP + _BOTTOM)
    plot.axes("rank in A, best first", "rank in B, best first", _PERCENT_TICKS, _PERCENT_TICKS, _whole_percent)
    if rows <= POINTS_DRAWN:
        x, y = plot.x((places[0] + 0.5) / rows), plot.y((places[1] + 0.5) / rows)
        points = "".join(f"M{px:.1f} {py:.1f}h0" for px, py in zip(x, y, strict=True))
        plot.add("path", d=points, class_="points")
    else:
        for level, path in enumerate(_density_paths(places, plot, _CELLS[width]), 1):
            plot.add("path", d=path, class_=f"density d{level}")
    if marked[0] is not None:
        plot.upright(marked[0] / rows, "A's budget")
    if marked[1] is not None:
        plot.across(marked[1] / rows, "B's budget")
    return plot.markup()


def rank_counts(places: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    """Return how many rows lie in each cell of a square of ranks, int64 [cells of A, cells of B]."""
    at = np.minimum(places * cells // max(places.shape[1], 1), cells - 1)  # [2, rows]
    return np.bincount(at[0] * cells + at[1], minlength=cells * cells).reshape(cells, cells)


def _density_paths(places: NDArray[np.int64], plot: _Plot, cells: int) -> list[str]:
    """Return one path for each level of density, in which neighbours side by side are one rectangle."""
    counts = rank_counts(places, cells)
    scale = LEVELS / math.log1p(int(counts.max()))
    levels = np.minimum(np.floor(np.log1p(counts) * scale - 1e-9).astype(np.int64) + 1, LEVELS) * (counts > 0)
    edges_x, edges_y = plot.x(np.arange(cells + 1) / cells), plot.y(np.arange(cells + 1) / cells)
    paths = [""] * LEVELS
    for line in range(cells):  # of equal rank in B
        of_line = levels[:, line]
        starts = np.flatnonzero(np.diff(of_line, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], cells], strict=True):
            if of_line[start]:
                left, right, low, high = edges_x[start], edges_x[stop], edges_y[line], edges_y[line + 1]
                paths[of_line[start] - 1] += f"M{left:.1f} {high:.1f}H{right:.1f}V{low:.1f}H{left:.1f}z"
    return paths


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


def agreement_figure(
    numbers: NDArray[np.int64], shared: NDArray[np.int64], marked: Sequence[tuple[float, float]], width: int
) -> Markup:
    """Return the share of the best rows that two runs have in common, against how many best rows are looked at.

    Parameters
    ----------
    numbers, shared
        See `agreement_curve`.
    marked
        Shares of rows and what is shared of them, marked by a dot with its number.
    """
    rows = int(numbers[-1])
    low = max(1 / rows, 1e-3)  # below a thousandth of the rows one of them makes a leap
    decades = -math.log10(low)
    plot = _Plot(width, 300)
    ticks = [share for share in _SHARE_TICKS[width] if share >= low]

    def along(shares: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.clip(1 + np.log10(np.asarray(shares)) / max(decades, 1e-9), 0, 1)

    plot.axes("best rows looked at (by ratios)", "in common", (), _PERCENT_TICKS, _whole_percent)
    for share in ticks:
        at = float(plot.x(along(share)))
        plot.add("line", x1=at, x2=at, y1=plot.bottom, y2=plot.bottom + 4.0, class_="axis")
        plot.words(min(at, width - 18.0), plot.bottom + 17, f"{share * 100:g}%", "middle", "tick")
    inside = numbers / rows >= low
    plot.line(along(numbers[inside] / rows), shared[inside] / numbers[inside], "agreement")
    by_chance = np.geomspace(low, 1, 60)
    plot.line(along(by_chance), by_chance, "even")
    for share, common in marked:
        if share >= low:
            plot.dot(float(along(share)), common, f"best {share:.1%}: {common:.1%} in common")
            above = common < 0.9  # noqa: PLR2004  else the words would leave the figure
            y = float(plot.y(common)) + (-9 if above else 18)
            plot.words(min(float(plot.x(along(share))), width - 22.0), y, f"{common:.0%}", "middle", "words")
    return plot.markup()


def angle_figure(angles: NDArray[np.float64], width: int) -> Markup:
    """Return principal angles, smallest first, in degrees."""
    plot = _Plot(width, 260)
    plot.axes("direction", "angle in degrees", (), [tick / 90 for tick in _ANGLE_TICKS], lambda v: f"{v * 90:.0f}")
    at = (np.arange(angles.size) + 0.5) / angles.size
    for place in sorted({0, angles.size // 2, angles.size - 1}):
        plot.words(float(plot.x(at[place])), plot.bottom + 17, f"{place + 1:,}", "middle", "tick")
    plot.line(at, angles / 90, "agreement")
    if angles.size <= _MOST_DOTS_APART:
        for place, angle in enumerate(angles.tolist()):
            plot.dot(float(at[place]), angle / 90, f"direction {place + 1}: {angle:.2f} degrees")
    plot.across(0.5, "half a right angle")
    return plot.markup()


class _Plot:
    """A plot whose two axes run from 0 to 1."""

    def __init__(self, width: int, height: int) -> None:
        self._right = float(width - _RIGHT)
        self._height = height
        self.bottom = float(height - _BOTTOM)
        self._parts: list[Markup] = []

    def x(self, shares: Any) -> Any:
        """Return where shares of the horizontal axis stand."""
        return _LEFT + np.asarray(shares) * (self._right - _LEFT)

    def y(self, shares: Any) -> Any:
        """Return where shares of the vertical axis stand, from the top."""
        return self.bottom - np.asarray(shares) * (self.bottom - _TOP)

    def axes(
        self, name_x: str, name_y: str, x: Sequence[float], y: Sequence[float], words: Callable[[float], str]
    ) -> None:
        """Draw the axes, with words at some shares."""
        for share in y:
            at = float(self.y(share))
            self.add("line", x1=_LEFT, x2=self._right, y1=at, y2=at, class_="grid")
            self.words(_LEFT - 6, at + 4, words(share), "end", "tick")
        self.add("line", x1=_LEFT, x2=self._right, y1=self.bottom, y2=self.bottom, class_="axis")
        for share in x:
            at = float(self.x(share))
            self.add("line", x1=at, x2=at, y1=self.bottom, y2=self.bottom + 4, class_="axis")
            self.words(min(at, self._right - 3), self.bottom + 17, words(share), "middle", "tick")
        self.words(2, 13, name_y, "start", "name")
        self.words(self._right, self._height - 7, name_x, "end", "name")

    def line(self, x: Any, y: Any, kind: str) -> None:
        """Draw a line through points."""
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(self.x(x), self.y(y), strict=True))
        self.add("polyline", points=points, class_=f"line {kind}")

    def dot(self, x: float, y: float, words: str) -> None:
        """Draw a point, with words for the pointer."""
        title = Markup("<title>{}</title>").format(words)
        place = {"cx": float(self.x(x)), "cy": float(self.y(y))}
        self._parts.append(_element("circle", title, **place, r="3.5", class_="dot agreement"))

    def upright(self, x: float, words: str) -> None:
        """Mark a share of the horizontal axis."""
        at = float(self.x(x))
        self.add("line", x1=at, x2=at, y1=_TOP, y2=self.bottom, class_="mark")
        left = x > 0.6  # noqa: PLR2004  at the right there is no room for words
        self.words(at - 6 if left else at + 6, _TOP + 11, words, "end" if left else "start", "words")

    def across(self, y: float, words: str) -> None:
        """Mark a share of the vertical axis."""
        at = float(self.y(y))
        self.add("line", x1=_LEFT, x2=self._right, y1=at, y2=at, class_="mark")
        self.words(self._right - 2, at - 6 if at > _TOP + 18 else at + 14, words, "end", "words")

    def words(self, x: float, y: float, words: str, anchor: str, kind: str) -> None:
        """Write words."""
        self._parts.append(_text(x, y, words, anchor, kind))

    def add(self, tag: str, **attributes: Any) -> None:
        """Add an element without content."""
        self._parts.append(_element(tag, "", **attributes))

    def markup(self) -> Markup:
        """Return what was drawn."""
        return Markup("").join(self._parts)


def row_words(number: float) -> str:
    """Return a number of rows, which on average need not be whole."""
    return f"{number:,.1f}" if number < _WHOLE_FROM and not float(number).is_integer() else f"{number:,.0f}"


def _whole_percent(share: float) -> str:
    return f"{share:.0%}"


def _text(x: float, y: float, words: str, anchor: str, kind: str) -> Markup:
    return _element("text", words, x=float(x), y=float(y), text_anchor=anchor, class_=kind)


def _element(tag: str, content: str, **attributes: Any) -> Markup:
    told = Markup("").join(
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value
        )
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, told, content)

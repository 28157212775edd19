"""Figures as SVG: scales, ticks, axes, lines, bars and marks. Colours and type are classes of the style sheet.

A figure is drawn for two widths, so that its texts stay readable on a phone; the style sheet shows one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

_STEPS = (1.0, 2.0, 5.0, 10.0)
_FEW_DECADES = 2
_LETTER = 6.6  # units that a letter of a label takes about, at 12 units of type size
_RIGHT, _TOP, _BOTTOM = 18, 26, 44
_FAR_LEFT = 44


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values of one axis stand.

    Attributes
    ----------
    low, high
        The values at the ends; `low` below `high`, and above zero where `log` is set.
    log
        Whether equal ratios, not equal differences, are equally far apart.
    """

    low: float
    high: float
    log: bool = False

    def shares(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return how far along the axis values stand, 0 at `low` and 1 at `high`; beyond the ends, at the ends."""
        inside = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        if self.log:
            return np.asarray(np.log(inside / self.low) / math.log(self.high / self.low))
        return np.asarray((inside - self.low) / (self.high - self.low))

    def ticks(self, most: int) -> list[float]:
        """Return round values between the ends, at most about so many."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        rough = (self.high - self.low) / max(most, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(place * step, 12) for place in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = last - first
        stride = max(1, math.ceil(decades / (most + 1)))
        factors = (1.0, 2.0, 5.0) if decades <= _FEW_DECADES else (1.0,)
        found = [factor * 10.0**power for power in range(first, last + 1, stride) for factor in factors]
        inside = [value for value in found if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
        return inside or [self.low, self.high]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of a figure: its scale, its name, and how its values are written."""

    scale: Scale
    name: str
    words: Callable[[float], str]
    ticks: int = 5


class Drawing:
    """A figure of one size, to which lines and marks are added.

    Parameters
    ----------
    width, height
        In units; a unit is about a pixel.
    x, y
        The two axes. Both are drawn at once.
    """

    def __init__(self, width: int, height: int, x: Axis, y: Axis) -> None:
        self._width, self._height = width, height
        self._x, self._y = x, y
        labels = [y.words(tick) for tick in y.scale.ticks(y.ticks)]
        self._left = max(_FAR_LEFT, math.ceil(_LETTER * max(map(len, labels))) + 14)
        self._right, self._bottom = width - _RIGHT, height - _BOTTOM
        self._parts: list[Markup] = []
        self._axes()

    def place_x(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values of x stand, in units."""
        return self._left + self._x.scale.shares(values) * (self._right - self._left)

    def place_y(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values of y stand, in units from the top."""
        return self._bottom - self._y.scale.shares(values) * (self._bottom - _TOP)

    def line(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        """Draw a line through points."""
        points = zip(self.place_x(x).tolist(), self.place_y(y).tolist(), strict=True)
        self._add("polyline", points=" ".join(f"{_round(px)},{_round(py)}" for px, py in points), class_=f"line {kind}")

    def area(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        """Fill what lies below a line."""
        places = self.place_x(x).tolist()
        points = [*zip(places, self.place_y(y).tolist(), strict=True), (places[-1], self._bottom)]
        points.insert(0, (places[0], self._bottom))
        self._add("polygon", points=" ".join(f"{_round(px)},{_round(py)}" for px, py in points), class_=f"area {kind}")

    def bar(self, left: float, right: float, height: float, kind: str, words: str) -> None:
        """Draw a bar from the axis up; `words` are shown where the pointer rests on it."""
        start, stop = self.place_x([left, right]).tolist()
        top = float(self.place_y(height))
        gap = 0.5 if stop - start > 3 else 0.0  # noqa: PLR2004  units: thinner bars would be mostly gap
        shape = _element(
            "rect",
            Markup("<title>{}</title>").format(words),
            x=_round(start + gap),
            y=_round(top),
            width=_round(max(stop - start - 2 * gap, 0.5)),
            height=_round(max(self._bottom - top, 0.0)),
            class_=f"bar {kind}",
        )
        self._parts.append(shape)

    def dot(self, x: float, y: float, kind: str, words: str) -> None:
        """Draw a point with words for the pointer."""
        title = Markup("<title>{}</title>").format(words)
        place = {"cx": _round(float(self.place_x(x))), "cy": _round(float(self.place_y(y)))}
        self._parts.append(_element("circle", title, **place, r="3.5", class_=f"dot {kind}"))

    def upright(self, x: float, words: str, level: int = 0) -> None:
        """Mark a value of x with a line and words beside it; `level` counts the lines of words down from the top."""
        at = float(self.place_x(x))
        self._add("line", x1=at, x2=at, y1=_TOP, y2=self._bottom, class_="mark")
        if words:
            self._words_beside(at, _TOP + 11 + 16 * level, words)

    def beside(self, x: float, y: float, words: str) -> None:
        """Write words to the right of a point and below it; to the left where there is no room."""
        self._words_beside(float(self.place_x(x)), min(float(self.place_y(y)) + 18, self._bottom - 6), words)

    def across(self, y: float, words: str) -> None:
        """Mark a value of y with a line and words above it, at the right end."""
        at = float(self.place_y(y))
        self._add("line", x1=self._left, x2=self._right, y1=at, y2=at, class_="mark")
        self._text(self._right - 2, at + (-6 if at > _TOP + 18 else 14), words, "end", "words")

    def path(self, outline: str, kind: str) -> None:
        """Draw an outline of SVG, in units as `place_x` and `place_y` give them."""
        self._add("path", d=outline, class_=kind)

    def markup(self, name: str, title: str, description: str, size: str) -> Markup:
        """Return the SVG element.

        Parameters
        ----------
        name
            Unique in the page; ids begin with it.
        title, description
            The text alternative.
        size
            `wide` or `narrow`: for which screens it is.
        """
        first = Markup('<title id="{0}-t">{1}</title><desc id="{0}-d">{2}</desc>').format(name, title, description)
        return Markup(
            '<svg class="figure {}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-labelledby="{}-t {}-d">'
            "{}{}</svg>"
        ).format(
            size, self._width, self._height, self._width, self._height, name, name, first, Markup("").join(self._parts)
        )

    def _axes(self) -> None:
        x, y = self._x, self._y
        for tick in y.scale.ticks(y.ticks):
            at = float(self.place_y(tick))
            self._add("line", x1=self._left, x2=self._right, y1=at, y2=at, class_="grid")
            self._text(self._left - 6, at + 4, y.words(tick), "end", "tick")
        self._add("line", x1=self._left, x2=self._right, y1=self._bottom, y2=self._bottom, class_="axis")
        free = -math.inf
        for tick in x.scale.ticks(x.ticks):
            at, words = float(self.place_x(tick)), x.words(tick)
            half = _LETTER * len(words) / 2
            if at - half < free:
                continue
            free = at + half + 6
            self._add("line", x1=at, x2=at, y1=self._bottom, y2=self._bottom + 4, class_="axis")
            # At the right end a label is moved in, so that it is not cut.
            self._text(min(at, self._width - half - 3), self._bottom + 17, words, "middle", "tick")
        self._text(2, 13, y.name, "start", "name")
        self._text(self._right, self._height - 7, x.name, "end", "name")

    def _words_beside(self, at: float, y: float, words: str) -> None:
        left = at + 6 + _LETTER * len(words) > self._right and at - self._left > self._right - at
        self._text(at - 6 if left else at + 6, y, words, "end" if left else "start", "words")

    def _text(self, x: float, y: float, words: str, anchor: str, kind: str) -> None:
        self._parts.append(_element("text", words, x=_round(x), y=_round(y), text_anchor=anchor, class_=kind))

    def _add(self, tag: str, **attributes: Any) -> None:
        self._parts.append(_element(tag, "", **attributes))


def two_sizes(
    name: str,
    title: str,
    description: str,
    draw: Callable[[int, int], Drawing],
    *,
    wide: tuple[int, int] = (540, 300),
    narrow: tuple[int, int] = (340, 250),
) -> Markup:
    """Return a figure for wide screens and one for phones; `draw` is given width and height in units."""
    sizes: Sequence[tuple[str, int, int]] = (("wide", *wide), ("narrow", *narrow))
    return Markup("").join(
        draw(width, height).markup(f"{name}-{size}", title, description, size) for size, width, height in sizes
    )


def _element(tag: str, content: str, **attributes: Any) -> Markup:
    told = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    written = Markup("").join(
        Markup(' {}="{}"').format(name, _round(value) if isinstance(value, float) else value)
        for name, value in told.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, content)


def _round(value: float) -> str:
    """Return a place in units to a tenth, in the fewest characters."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text

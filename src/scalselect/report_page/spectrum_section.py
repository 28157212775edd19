"""The spectrum: how fast the energy falls off, where it was cut, and how clear the cut is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scalselect.report_page.encoded_arrays import encoded
from scalselect.report_page.figures import Axis, Drawing, Scale, two_sizes
from scalselect.report_page.number_words import counted, number, percent, times
from scalselect.report_page.page import Section

if TYPE_CHECKING:
    from markupsafe import Markup
    from numpy.typing import NDArray

    from scalselect.records import DominantSubspace
    from scalselect.report_page.material import Material

_FEWEST_SHOWN = 16
_TIMES_K = 3  # dimensions shown, as a multiple of k: the fall beyond the cut is seen, and the cut is not at the edge
_MOST_BARS = 60
_COINCIDE, _NARROW, _MODERATE = 1e-3, 0.05, 0.2  # of s_k / s_k+1 - 1
# Two neighbouring singular values of n rows drawn anew differ by chance by about 1 / sqrt(n) of their size.
_BY_CHANCE, _WELL_BEYOND = 2.0, 5.0
_BY_TIMES = 2.0  # a ratio from which on it is told as one
_DOMINANT = 0.5
_LOW_DOWN = 8  # lines below the top: where the curve leaves room for words


def spectrum_section(material: Material) -> Section:
    """Return the section on singular values."""
    subspace = material.folder.read_subspace()
    known = material.singular_values
    zero = known[0] * math.sqrt(np.finfo(np.float64).eps * subspace.mean.size)  # up to rounding, as where it was cut
    held = max(int(np.count_nonzero(known > zero)), subspace.rank)
    shown = min(held, max(_FEWEST_SHOWN, _TIMES_K * subspace.rank))
    cumulative = np.minimum(np.cumsum(known**2 / subspace.total_energy), 1.0)  # [known]
    score = material.run.get("score") or {}
    threshold = None if score.get("rank") else score.get("energy")
    return Section(
        name="spectrum",
        title="The spectrum",
        content={
            "conclusion": _words(subspace, threshold),
            "values": _figure_of_values(known[:shown], subspace.rank),
            "energy": _figure_of_energy(cumulative[:shown], subspace.rank, threshold),
            "gap": _words_of_gap(subspace),
            "dimension": _words_of_dimension(subspace),
            "shown": _words_of_shown(shown, held, known.size, subspace.mean.size),
            "table": [
                {"j": j + 1, "value": number(float(known[j]), 4), "energy": percent(float(cumulative[j]))}
                for j in range(min(shown, subspace.rank + 2))
            ],
        },
        data={"k": subspace.rank, "singular_values": encoded(known[:shown]), "cumulative": encoded(cumulative[:shown])},
    )


def _words_of_shown(shown: int, held: int, known: int, hidden: int) -> str:
    which = f"all {shown:,}" if shown == known else f"the first {shown:,} of {known:,}"
    words = f"Shown: {which} singular values{f', computed of {hidden:,}' if known < hidden else ''}."
    zeros = known - held
    if not zeros:
        return words
    rest = "The last one is zero" if zeros == 1 else f"The last {zeros:,} are zero"
    return f"{words} {rest} up to rounding: the rows span no more than {counted(held, 'dimension')}."


def _words(subspace: DominantSubspace, threshold: float | None) -> str:
    k = subspace.rank
    first = float(subspace.singular_values[0] ** 2 / subspace.total_energy)
    asked = "a fixed rank" if threshold is None else f"{percent(threshold)} asked"
    of, hold = counted(subspace.mean.size, "dimension"), "holds" if k == 1 else "hold"
    words = f"{k:,} of {of} {hold} {percent(subspace.energy)} of the energy ({asked})"
    return f"{words}; the first alone holds {percent(first)}." if k > 1 else f"{words}."


def _words_of_gap(subspace: DominantSubspace) -> str:
    k, gap = subspace.rank, subspace.gap
    if not math.isfinite(gap):
        return f"Nothing is left beyond dimension {k:,}: the subspace holds all there is."
    beyond = gap - 1.0
    larger = f"{percent(beyond)} larger than" if gap < _BY_TIMES else times(gap)
    told = f"singular value {k:,} is {larger} the next"
    if beyond < _COINCIDE:
        return (
            f"No gap at the cut: {told}. Which directions are inside is a matter of rounding, so another machine may "
            "rank rows otherwise; another `--energy` puts the cut elsewhere."
        )
    chance = 1.0 / math.sqrt(subspace.rows)
    if beyond < max(_NARROW, _BY_CHANCE * chance):
        beside = f"; of {counted(subspace.rows, 'row')} chance alone makes about {percent(chance)}"
        return (
            f"A narrow gap at the cut: {told}{beside if beyond < _BY_CHANCE * chance else ''}. A slightly different "
            "pool may turn the last direction, so ranks that hang on it are not sharp."
        )
    if beyond < max(_MODERATE, _WELL_BEYOND * chance):
        return f"A moderate gap at the cut: {told}. A pool much like this one would have much the same subspace."
    return f"A clear gap at the cut: {told}."


def _words_of_dimension(subspace: DominantSubspace) -> str | None:
    share = subspace.largest_dimension_energy
    if share <= _DOMINANT:
        return None
    return (
        f"One coordinate of the model's {subspace.mean.size:,} holds {percent(share)} of the energy by itself, so "
        "scores mostly measure that coordinate."
    )


def _numbers(size: int) -> Axis:
    return Axis(scale=Scale(0.5, size + 0.5), name="dimension", words=lambda v: f"{v:,.0f}" if v >= 1 else "", ticks=6)


def _figure_of_values(values: NDArray[np.float64], k: int) -> Markup:
    highest, lowest = float(values[0]), float(values[-1])
    y = Axis(
        scale=Scale(lowest * 0.7, highest * 1.3, log=True), name="singular value (by ratios)", words=number, ticks=4
    )

    def draw(width: int, height: int) -> Drawing:
        drawing = Drawing(width, height, _numbers(values.size), y)
        if values.size <= _MOST_BARS:
            for j, value in enumerate(values.tolist(), 1):
                kind = "chosen" if j <= k else "others"
                drawing.bar(j - 0.4, j + 0.4, value, kind, f"dimension {j:,}: {number(value, 4)}")
        else:
            at = np.arange(1, values.size + 1)
            drawing.area(at[:k], values[:k], "leverage")
            drawing.line(at, values, "leverage")
        drawing.upright(min(k + 0.5, values.size + 0.5), f"k = {k:,}")
        return drawing

    return two_sizes(
        "values",
        "Singular values",
        f"{counted(values.size, 'singular value')} from {number(highest)} down to {number(float(values[-1]))}; "
        f"the first {k:,} span the dominant subspace.",
        draw,
    )


def _figure_of_energy(cumulative: NDArray[np.float64], k: int, threshold: float | None) -> Markup:
    y = Axis(scale=Scale(0.0, 1.0), name="cumulative energy", words=percent, ticks=5)

    def draw(width: int, height: int) -> Drawing:
        drawing = Drawing(width, height, _numbers(cumulative.size), y)
        at = np.arange(1, cumulative.size + 1)
        drawing.line(at, cumulative, "leverage")
        reached = float(cumulative[min(k, cumulative.size) - 1])
        if threshold is not None:
            drawing.across(threshold, f"threshold {percent(threshold)}")
        drawing.upright(min(k, cumulative.size), f"k = {k:,}: {percent(reached)}", _LOW_DOWN)
        drawing.dot(min(k, cumulative.size), reached, "chosen", f"k = {k:,}: {percent(reached)}")
        return drawing

    return two_sizes(
        "energy",
        "Cumulative energy",
        f"A curve that rises to {percent(float(cumulative[-1]))} at dimension {cumulative.size:,} and passes "
        f"{percent(float(cumulative[min(k, cumulative.size) - 1]))} at k = {k:,}.",
        draw,
    )

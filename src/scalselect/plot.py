"""Plots of a run for papers and notebooks: its spectrum, its leverage curve, a map of its rows. Needs matplotlib.

Every function takes a `RunResult` or a run folder, draws into the axes that it is given, or into a new figure, and
returns the axes, so that titles, limits and styles can be changed afterwards. The run folder is read as it is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise ImportError(
        f"scalselect.plot needs matplotlib 3.9 or later: pip install 'scalselect[plot]' ({error})"
    ) from error

from scalselect.errors import OptionError, did_you_mean
from scalselect.option_values import check_positive
from scalselect.plot_material import (
    BLUE,
    GREY,
    VERMILLION,
    chosen_among,
    drawn_rows,
    folder_of,
    groups_of,
    label_of,
    scored_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.results import RunResult

    Colour = Literal["score", "choice", "source", "stratum"]

__all__ = ["leverage_curve", "map", "spectrum"]

_COLOURED_BY = ("score", "choice", "source", "stratum")
_CURVE_POINTS = 500
_MARKED_POINTS = 64  # more markers than these hide the line
_OWN_OF_MAP = ("c", "color", "facecolor", "facecolors", "label", "marker", "norm")


def spectrum(run: RunResult | str | Path, ax: Axes | None = None, **style: Any) -> tuple[Axes, Axes]:
    """Draw the singular values and the energy that the first so many of them hold; k and the threshold are marked.

    Parameters
    ----------
    run
        A run that has scores.
    ax
        Where to draw; None: into a new figure of pyplot.
    **style
        Properties of the line of singular values, as `Axes.plot` takes them.

    Returns
    -------
    tuple
        Two axes over the same dimensions: that of the singular values (logarithmic; `ax` where it was given), and its
        twin at the right, of the cumulative energy, between 0 and 1. Where only the first singular values were
        computed, both end there.

    Raises
    ------
    RunFolderError
        If this is no run folder, or it has no scores.
    OptionError
        If `run` or `ax` is something else, or a property is unknown.
    """
    folder = folder_of(run)
    _check_drawing(ax, style, lambda scratch: scratch.plot([], [], **style))
    recorded = folder.require()
    subspace = folder.read_subspace()
    dimensions = np.arange(1, subspace.spectrum.size + 1)
    held = np.cumsum(subspace.spectrum**2) / subspace.total_energy  # [known]
    values = _axes_or_new(ax)
    energy = values.twinx()
    marker = "o" if dimensions.size <= _MARKED_POINTS else ""
    values.plot(
        dimensions,
        subspace.spectrum,
        **{"color": BLUE, "marker": marker, "markersize": 3, "label": "singular value", **style},
    )
    energy.plot(dimensions, held, color=VERMILLION, linestyle="--", label="cumulative energy")
    gap = "" if not np.isfinite(subspace.gap) else f", $s_k / s_{{k+1}}$ = {subspace.gap:.3g}"
    label = f"k = {subspace.rank}: {subspace.energy:.1%} of the energy{gap}"
    values.axvline(subspace.rank, color="black", linewidth=0.8, linestyle=":", label=label)
    options = recorded.get("score") or {}
    wanted = options.get("energy")
    if wanted is not None and options.get("rank") is None:  # of the two, a rank has the say
        energy.axhline(wanted, color=VERMILLION, linewidth=0.8, linestyle=":", label=f"threshold {wanted:g}")
    values.set_yscale("log")
    values.set(xlabel="dimension", ylabel="singular value")
    energy.set(ylabel="cumulative energy", ylim=(0, 1.02))
    handles = [*values.get_lines(), *energy.get_lines()]
    # In the twin, which lies above: no line runs through the words.
    energy.legend(handles=handles, loc="center right", fontsize="small", framealpha=0.9)
    return values, energy


def leverage_curve(run: RunResult | str | Path, ax: Axes | None = None, **style: Any) -> Axes:
    """Draw which share of the leverage the rows of highest score hold, against their share of the scored rows.

    The diagonal is what a random choice holds on average. A dot marks the rows that the run chose.

    Parameters
    ----------
    run
        A run that has scores.
    ax
        Where to draw; None: into a new figure of pyplot.
    **style
        Properties of the curve, as `Axes.plot` takes them.

    Returns
    -------
    Axes
        Its first line is the curve: exact at each of its points, of which there are some hundreds however many rows
        there are.

    Raises
    ------
    RunFolderError
        If this is no run folder, or it has no scores.
    OptionError
        If `run` or `ax` is something else, or a property is unknown.
    """
    folder = folder_of(run)
    _check_drawing(ax, style, lambda scratch: scratch.plot([], [], **style))
    folder.require()
    table = scored_rows(folder.read_scores())
    scores = table["leverage_score"].to_numpy()  # [scored]
    chosen = chosen_among(table)
    falling = np.cumsum(np.sort(scores)[::-1]) / scores.sum()  # [scored]
    even, early = np.linspace(1, scores.size, _CURVE_POINTS), np.geomspace(1, scores.size, _CURVE_POINTS // 2)
    marked = [] if chosen is None else [np.count_nonzero(chosen)]
    rows = np.unique(np.rint(np.concatenate([[0], even, early, marked])).astype(np.int64))  # [points]
    held = np.where(rows == 0, 0.0, np.minimum(falling[rows - 1], 1.0))
    axes = _axes_or_new(ax)
    axes.plot(
        rows / scores.size, held, **{"color": BLUE, "linewidth": 1.8, "label": "rows of highest score first", **style}
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="a random choice, on average")
    if chosen is not None and chosen.any():
        share, of_leverage = float(chosen.mean()), float(scores[chosen].sum() / scores.sum())
        label = f"chosen: {share:.1%} of the rows, {of_leverage:.1%} of the leverage"
        axes.plot([share], [of_leverage], color=VERMILLION, marker="o", linestyle="", label=label, zorder=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="share of the scored rows", ylabel="share of the leverage", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right", fontsize="small")
    return axes


def map(  # noqa: A001  the name that a reader looks for, and always behind `plot.`
    run: RunResult | str | Path,
    pair: tuple[int, int] = (0, 1),
    colour: Colour = "score",
    ax: Axes | None = None,
    *,
    points: int = 20_000,
    seed: int = 0,
    **style: Any,
) -> Axes:
    """Draw scored rows as points in two coordinates of the dominant subspace.

    Parameters
    ----------
    run
        A run that has scores.
    pair
        Which two of the k dominant coordinates, from 0: columns of U_k, so that the square of one is what it adds to
        the leverage score.
    colour
        `score` (logarithmic, with a colour bar), `choice`, `source` or `stratum`. Of many sources or strata the
        largest have a colour of their own.
    ax
        Where to draw; None: into a new figure of pyplot.
    points
        Rows drawn at most; of more, this many are drawn at random.
    seed
        Of this drawing.
    **style
        Properties of the points, as `Axes.scatter` takes them, but for colour and marker, which have a meaning here.

    Returns
    -------
    Axes
        With one collection of points, or one for each group; the colour bar is ``ax.collections[0].colorbar``.

    Raises
    ------
    RunFolderError
        If this is no run folder, it has no scores, or what `colour` names is not in it.
    OptionError
        If an argument cannot be used.
    """
    folder = folder_of(run)
    _check_map(colour, points, seed, style)
    coloured: dict[str, Any] = {"c": []} if colour == "score" else {}
    _check_drawing(ax, style, lambda scratch: scratch.scatter([], [], **coloured, **style))
    folder.require()
    table = scored_rows(folder.read_scores())
    coordinates = folder.read_coordinates().vision  # [scored, k]
    first, second = _check_pair(pair, coordinates.shape[1])
    groups = None if colour == "score" else list(groups_of(table, colour, folder.path))
    drawn = drawn_rows(table.num_rows, points, seed)
    x, y = coordinates[drawn, first], coordinates[drawn, second]  # [drawn] each
    axes = _axes_or_new(ax)
    given = {"s": 8, "alpha": 0.8, "linewidths": 0, "rasterized": True, **style}
    if groups is None:
        _draw_by_score(axes, x, y, table["leverage_score"].to_numpy()[drawn], given)
    else:
        for name, members, look in groups:
            inside = members[drawn]
            axes.scatter(x[inside], y[inside], **look, label=label_of(name), **given)
        axes.legend(title=colour, loc="best", fontsize="small", markerscale=2)
    axes.set(xlabel=f"dominant coordinate {first + 1}", ylabel=f"dominant coordinate {second + 1}")
    return axes


def _draw_by_score(
    axes: Axes, x: NDArray[np.float32], y: NDArray[np.float32], scores: NDArray[np.float64], style: Mapping[str, Any]
) -> None:
    order = np.argsort(scores, kind="stable")  # the highest on top, and dark, so that paper does not hide them
    positive = scores[scores > 0]
    norm = LogNorm(positive.min(), positive.max(), clip=True) if positive.size else None
    look = {"cmap": "cividis_r", **style}
    drawn = axes.scatter(x[order], y[order], c=scores[order], norm=norm, **look)
    axes.get_figure(root=True).colorbar(drawn, ax=axes, label="leverage score")  # type: ignore[union-attr]


def _check_map(colour: str, points: int, seed: int, style: Mapping[str, Any]) -> None:
    if colour not in _COLOURED_BY:
        near = did_you_mean(str(colour), _COLOURED_BY)
        raise OptionError(f"colour must be one of {', '.join(_COLOURED_BY)}: {colour!r}{near}")
    if points is None:
        raise OptionError("points must be a whole number of at least 1: None")
    check_positive("points", points)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise OptionError(f"seed must be a whole number, not negative: {seed!r}")
    for name in _OWN_OF_MAP:
        if name in style:
            raise OptionError(f"`{name}` says what `colour` names, so it cannot be given: {style[name]!r}")


def _check_pair(pair: tuple[int, int], k: int) -> tuple[int, int]:
    if k < 2:  # noqa: PLR2004  a map has two axes
        raise OptionError(f"a map needs two coordinates, and the dominant subspace of this run has {k}")
    whole = isinstance(pair, (tuple, list)) and all(
        isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in pair
    )
    if not whole or len(pair) != 2 or pair[0] == pair[1] or not all(0 <= one < k for one in pair):  # noqa: PLR2004
        raise OptionError(f"pair must be two different coordinates of 0 to {k - 1}: {pair!r}")
    return int(pair[0]), int(pair[1])


def _check_drawing(ax: Axes | None, style: Mapping[str, Any], draw: Callable[[Axes], object]) -> None:
    """Raise OptionError where this cannot be drawn, by drawing nothing, elsewhere."""
    if ax is not None and not isinstance(ax, Axes):
        raise OptionError(f"ax must be axes of matplotlib: {type(ax).__name__}")
    try:
        draw(Figure().add_subplot())
    except (AttributeError, TypeError, ValueError) as error:
        raise OptionError(f"style cannot be drawn: {dict(style)!r} ({error})") from error


def _axes_or_new(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt  # noqa: PLC0415  it keeps figures and a backend, which others may not want

    return plt.subplots(layout="constrained")[1]

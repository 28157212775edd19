"""Attention of the instruction as the page lays it over a picture: cells in place of tokens, and the same in words.

Tokens are of many kinds: tiles overlap at several sizes, pictures are padded, patches are merged. A cell holds the
attention of the tokens that cover it, each in proportion to how much of the token lies there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.explanations_file import Explanation

MOST_CELLS = 32  # along a side
_CELLS_OF_A_ROW = 2 * MOST_CELLS**2  # of all pictures of a sample together
_TOKENS_AT_ONCE = 4096
_SIDES = (("upper", "middle", "lower"), ("left", "centre", "right"))
_MOSTLY = 1 / 3  # of the attention in one of nine parts of a picture
_WORTH_TELLING = 0.01
_THIN = 1e-5  # of a side of the picture: what overlaps it by less only touches it


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AttentionGrid:
    """Attention over one picture.

    Attributes
    ----------
    image
        Which image of the sample this is, from 0.
    area
        What the cells cover together: left, top, right, bottom as shares of the picture, which may reach beyond it.
    mass
        Share of the instruction's attention that lies in each cell, float64 [down, across].
    kept
        Cells that averaged tokens cover by half or more, bool [down, across].
    """

    image: int
    area: tuple[float, float, float, float]
    mass: NDArray[np.float64]
    kept: NDArray[np.bool_]


def attention_grids(explanation: Explanation, pictures: int) -> list[AttentionGrid]:
    """Return a grid for each of the first pictures of a sample in which the place of any token is known."""
    side = min(MOST_CELLS, math.isqrt(_CELLS_OF_A_ROW // max(1, pictures)))
    placed = _placed(explanation)
    found = []
    for image in range(pictures):
        here = placed & (explanation.image == image)
        if here.any():
            found.append(_grid(image, explanation, here, side))
    return found


def attention_words(explanation: Explanation) -> str:
    """Return in words how many tokens were averaged, what they hold of the attention, and where it mostly lies."""
    kept, mass = int(explanation.kept.sum()), explanation.attention.astype(np.float64)
    share = float(mass[explanation.kept].sum()) / max(float(mass.sum()), np.finfo(float).tiny)
    words = f"{share:.0%} of the instruction's attention lies on {kept:,} of {mass.size:,} image tokens"
    placed = _placed(explanation)
    if not placed.any():
        return f"{words}."
    words = f"{words}; {_where(explanation, placed)}."
    nowhere = 1 - float(mass[placed].sum()) / max(float(mass.sum()), np.finfo(float).tiny)
    if nowhere >= _WORTH_TELLING:
        words += f" {nowhere:.0%} lies on tokens that show no place in a picture."
    return words


def _placed(explanation: Explanation) -> NDArray[np.bool_]:
    """Return which tokens show a part of a picture, not only of its padding, bool [vision]."""
    left, top, right, bottom = explanation.boxes.T
    with np.errstate(invalid="ignore"):  # NaN where a place is not known
        inside = (np.minimum(right, 1) - np.maximum(left, 0) > _THIN) & (
            np.minimum(bottom, 1) - np.maximum(top, 0) > _THIN
        )
    placed: NDArray[np.bool_] = inside & (explanation.image >= 0)
    return placed


def _grid(image: int, explanation: Explanation, here: NDArray[np.bool_], side: int) -> AttentionGrid:
    boxes = explanation.boxes[here].astype(np.float64)  # [tokens, 4]
    mass, kept = explanation.attention[here].astype(np.float64), explanation.kept[here]
    first, last = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)  # [across, down]
    # As many cells as tokens, so that equal tokens side by side are cells of their own.
    sizes = np.median(boxes[:, 2:] - boxes[:, :2], axis=0)
    across, down = (int(number) for number in np.clip(np.round((last - first) / sizes), 1, side))
    total, covered = np.zeros((down, across)), np.zeros((down, across))
    for begin in range(0, len(boxes), _TOKENS_AT_ONCE):
        some = slice(begin, begin + _TOKENS_AT_ONCE)
        x = _overlaps(boxes[some, 0], boxes[some, 2], first[0], last[0], across)  # [tokens, across], in cells
        y = _overlaps(boxes[some, 1], boxes[some, 3], first[1], last[1], down)
        areas = x.sum(axis=1) * y.sum(axis=1)
        total += (y * (mass[some] / areas)[:, np.newaxis]).T @ x
        covered += y[kept[some]].T @ x[kept[some]]
    area = (float(first[0]), float(first[1]), float(last[0]), float(last[1]))
    return AttentionGrid(image=image, area=area, mass=total, kept=covered >= 0.5 - 1e-3)


def _overlaps(
    begins: NDArray[np.float64], ends: NDArray[np.float64], first: float, last: float, cells: int
) -> NDArray[np.float64]:
    """Return how much of each cell along one side each token covers, float64 [tokens, cells]."""
    scale = cells / (last - first)
    edges = np.arange(cells)
    begin, end = ((each[:, np.newaxis] - first) * scale for each in (begins, ends))
    covered: NDArray[np.float64] = np.clip(np.minimum(end, edges + 1) - np.maximum(begin, edges), 0, 1)
    return covered


def _where(explanation: Explanation, placed: NDArray[np.bool_]) -> str:
    mass = explanation.attention[placed].astype(np.float64)
    boxes = explanation.boxes[placed].astype(np.float64)
    middles = np.clip((boxes[:, :2] + boxes[:, 2:]) / 2, 0, 1 - 1e-9)  # [tokens, 2]
    across, down = (middles * 3).astype(np.int64).T
    image = explanation.image[placed]
    parts = np.bincount(image * 9 + down * 3 + across, weights=mass)
    most = int(parts.argmax())
    if not mass.sum() or parts[most] < _MOSTLY * mass.sum():
        return "spread over the picture" if image.max() == 0 else "spread over the pictures"
    row, column = (most % 9) // 3, most % 3
    words = "centre" if (row, column) == (1, 1) else f"{_SIDES[0][row]} {_SIDES[1][column]}"
    return f"mostly {words}" if image.max() == 0 else f"mostly image {most // 9 + 1}, {words}"

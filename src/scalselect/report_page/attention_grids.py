"""Attention of the instruction as the page lays it over a picture: cells in place of tokens, and the same in words.

Tokens are of many kinds: tiles overlap at several sizes, pictures are padded, patches are merged. A cell holds the
attention of the tokens that cover it, each in proportion to how much of the token lies there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.report_page.number_words import counted, listed, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.explanations_file import Explanation

MOST_CELLS = 32  # along a side
_CELLS_OF_A_ROW = 2 * MOST_CELLS**2  # of all pictures of a sample together
_TOKENS_AT_ONCE = 4096
_SIDES = (("upper", "middle", "lower"), ("left", "centre", "right"))
_MOSTLY = 1 / 2  # of the attention on pictures, in one of nine parts of one of them
_SPREAD_BELOW = 1 / 4
_WORTH_TELLING = 0.01  # of the attention, or of a picture
_MOST_NAMED = 4  # pictures in a sentence
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

    @property
    def seen(self) -> float:
        """Return the share of the picture that the cells cover, 1.0 where what is missing is not worth telling."""
        share = _share_of(*self.area)
        return share if share < 1 - _WORTH_TELLING else 1.0


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
    """Return in words what the averaged tokens hold of the attention, where on the pictures it lies, and where not.

    Where a token reaches beyond its picture, so much of its attention lies on padding.
    """
    kept, mass = explanation.kept, explanation.attention.astype(np.float64)
    total = max(float(mass.sum()), np.finfo(float).tiny)
    share = percent(float(mass[kept].sum()) / total)
    words = f"{share} of the instruction's attention lies on {int(kept.sum()):,} of {mass.size:,} image tokens"
    known = (explanation.image >= 0) & np.isfinite(explanation.boxes).all(axis=1)
    if not known.any():
        return f"{words}."
    ninths = _ninths(explanation, known)
    on_pictures, nowhere = float(ninths.sum()) / total, float(mass[~known].sum()) / total
    padding = 1 - on_pictures - nowhere
    if on_pictures >= _WORTH_TELLING:
        words += f"; {_where(ninths)}"
    told = [f"{words}."]
    if padding >= _WORTH_TELLING:
        told.append(f"{percent(padding)} lies on padding.")
    if nowhere >= _WORTH_TELLING:
        told.append(f"{percent(nowhere)} lies on tokens that show no place in a picture.")
    return " ".join([*told, *_unseen_words(explanation)])


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


def _ninths(explanation: Explanation, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the attention on each of nine parts of each picture, float64 [images, down, across]."""
    boxes, mass = explanation.boxes[known].astype(np.float64), explanation.attention[known].astype(np.float64)
    image = explanation.image[known]
    x = _overlaps(boxes[:, 0], boxes[:, 2], 0.0, 1.0, 3)  # [tokens, 3], in thirds
    y = _overlaps(boxes[:, 1], boxes[:, 3], 0.0, 1.0, 3)
    areas = 9 * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)  # in ninths, with what lies beyond the picture
    areas = np.maximum(areas, np.finfo(float).tiny)
    found = np.zeros((int(image.max()) + 1, 3, 3))
    np.add.at(found, image, y[:, :, np.newaxis] * x[:, np.newaxis, :] * (mass / areas)[:, np.newaxis, np.newaxis])
    return found


def _where(ninths: NDArray[np.float64]) -> str:
    most = int(ninths.argmax())
    share = float(ninths.ravel()[most] / ninths.sum())
    if share < _SPREAD_BELOW:
        return "spread over the picture" if len(ninths) == 1 else "spread over the pictures"
    row, column = (most % 9) // 3, most % 3
    words = "centre" if (row, column) == (1, 1) else f"{_SIDES[0][row]} {_SIDES[1][column]}"
    words = words if len(ninths) == 1 else f"image {most // 9 + 1}, {words}"
    return f"mostly {words}" if share >= _MOSTLY - _THIN else f"most in {words} ({percent(share)})"


def _unseen_words(explanation: Explanation) -> list[str]:
    """Return a sentence for each part of pictures that is all of them that the tokens show."""
    placed = _placed(explanation)
    shown: dict[str, list[int]] = {}
    for image in np.unique(explanation.image[placed]).tolist():
        boxes = explanation.boxes[placed & (explanation.image == image)].astype(np.float64)
        area = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
        if _share_of(*area) < 1 - _WORTH_TELLING:
            shown.setdefault(_part_words(*area), []).append(image + 1)
    several = int(explanation.image.max()) > 0
    return [f"The model sees only the {part} of {_pictures_words(some, several)}." for part, some in shown.items()]


def _share_of(left: float, top: float, right: float, bottom: float) -> float:
    return (min(right, 1.0) - max(left, 0.0)) * (min(bottom, 1.0) - max(top, 0.0))


def _part_words(left: float, top: float, right: float, bottom: float) -> str:
    """Return which part of a picture an area is: `middle 33 %`, `upper left 40 %`."""
    sides = []
    for first, last, (begin, _, end) in zip((top, left), (bottom, right), _SIDES, strict=True):
        before, after = max(first, 0.0), max(1.0 - last, 0.0)
        if abs(before - after) > _WORTH_TELLING:
            sides.append(begin if before < after else end)
    return f"{' '.join(sides) or 'middle'} {percent(_share_of(left, top, right, bottom))}"


def _pictures_words(images: list[int], several: bool) -> str:
    if not several:
        return "this picture"
    if len(images) > _MOST_NAMED:
        return counted(len(images), "picture")
    return f"image{'s' if len(images) > 1 else ''} {listed([str(image) for image in images])}"

"""Which pairs of unit vectors can be near, by short sketches of them: a bound, never a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SLACK = 1e-5  # of a cosine: what float32 coordinates and products may be wrong by, and more
_BLOCK = 512  # rows
_SPLIT = 3  # columns, those of most energy: boxes narrow in few columns keep more apart than boxes half as wide in all


def sketch(coordinates: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit vectors as their coordinates and the length of what the coordinates leave out.

    For unit vectors x and z with sketches (a, r) and (b, s), Cauchy and Schwarz give
    ``a . b - r s <= x . z <= a . b + r s``: the product of two sketches bounds the cosine from above, and twice the
    product of their last columns less is a bound from below.

    Parameters
    ----------
    coordinates
        Of the vectors along orthonormal directions, float32 [rows, directions].
    norms
        Lengths of the whole vectors, positive, float64 [rows].

    Returns
    -------
    Float32 [rows, directions + 1]. What is left out is taken a little too long, so that rounding keeps the bounds.
    """
    points = np.empty((len(coordinates), coordinates.shape[1] + 1), dtype=np.float32)
    np.divide(coordinates, norms[:, None], out=points[:, :-1], casting="same_kind")
    inside = np.einsum("ij,ij->i", points[:, :-1], points[:, :-1], dtype=np.float64)
    points[:, -1] = np.sqrt(np.maximum(1.0 - inside, 0.0) + SLACK)
    return points


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Rows gathered by where their sketches lie: each block has the box around its sketches.

    Attributes
    ----------
    rows
        Row numbers, block after block, int64 [rows].
    points
        Their sketches, float32 [rows, columns].
    starts
        Where each block starts, and the end, int64 [blocks + 1].
    low, high
        Corners of the boxes, float32 [blocks, columns].
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    starts: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.int64], points: NDArray[np.float32]) -> Blocks:
        """Split rows and their sketches into blocks of at most 512, at medians of the widest of the first columns."""
        whole, parts = [np.arange(len(rows))], []
        while whole:
            part = whole.pop()
            if len(part) <= _BLOCK:
                parts.append(part)
                continue
            column = int(np.argmax(np.ptp(points[part, :_SPLIT], axis=0)))
            halves = part[np.argpartition(points[part, column], len(part) // 2)]
            whole += [halves[len(part) // 2 :], halves[: len(part) // 2]]
        order = np.concatenate(parts)
        starts = np.cumsum([0, *map(len, parts)])
        ordered = points[order]
        nothing = np.empty((0, points.shape[1]), dtype=np.float32)
        return cls(
            rows=rows[order],
            points=ordered,
            starts=starts,
            low=np.minimum.reduceat(ordered, starts[:-1]) if len(rows) else nothing,
            high=np.maximum.reduceat(ordered, starts[:-1]) if len(rows) else nothing,
        )


def pairs_that_may_reach(
    bound: float, ours: Blocks, theirs: Blocks
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield all pairs of rows whose cosine may be `bound` or more.

    Blocks are passed over whose boxes are too far apart: the squared distance of two sketches, whose norms are 1 but
    for the slack, is 2 less twice their product.

    Yields
    ------
    Of one pair of blocks: row numbers of ours, of theirs, and the upper bound of their cosine.
    """
    least, farthest = np.float32(bound - SLACK), 2.0 - 2.0 * bound + 6.0 * SLACK
    for block in range(len(ours.low)):
        gap = np.maximum(theirs.low - ours.high[block], ours.low[block] - theirs.high)  # [their blocks, columns]
        np.maximum(gap, 0.0, out=gap)
        start, end = ours.starts[block : block + 2]
        for other in np.flatnonzero(np.einsum("ij,ij->i", gap, gap) <= farthest):
            first, last = theirs.starts[other : other + 2]
            products = (ours.points[start:end] @ theirs.points[first:last].T).ravel()
            reached = np.flatnonzero(products >= least)
            if len(reached):
                left, right = np.divmod(reached, last - first)
                yield ours.rows[start + left], theirs.rows[first + right], products[reached]

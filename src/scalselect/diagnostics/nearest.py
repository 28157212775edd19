"""Exact nearest neighbours in the whitened dominant subspace, by blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_POINTS_AT_ONCE = 256
_AMONG_AT_ONCE = 1024  # so that a block of distances, 2 MiB, stays near the processor


def nearest_rows(
    points: NDArray[np.float64], among: Iterable[NDArray[np.float64]], itself: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find for every point the nearest row of a set.

    With ``|p - a|^2 = |p|^2 + (|a|^2 - 2 p a)`` one matrix product ranks the rows of a block; the distance to the
    nearest one is then computed anew from the difference, so that equal rows are at a distance of exactly zero.

    Parameters
    ----------
    points
        Float64 [points, k].
    among
        The set, block after block, float64 [block, k] each.
    itself
        For points that belong to the set: the place of each in it, int64 [points], which does not count.

    Returns
    -------
    tuple
        Place in the set of the nearest row, int64 [points], and its distance, float64 [points].
        Where there is none, -1 and infinity.
    """
    best = np.full(points.shape[0], np.inf)  # [points]
    place = np.full(points.shape[0], -1, dtype=np.int64)  # [points]
    nearest = np.zeros_like(points)  # [points, k]
    with_ones = np.hstack([-2.0 * points, np.ones((points.shape[0], 1))])  # [points, k + 1]
    memory = np.empty(_POINTS_AT_ONCE * _AMONG_AT_ONCE)  # for all blocks: new memory is slower
    for begin, rows in _pieces(among):
        with_norms = np.hstack([rows, np.einsum("sk,sk->s", rows, rows)[:, None]])  # [piece of the set, k + 1]
        for start in range(0, points.shape[0], _POINTS_AT_ONCE):
            here = slice(start, start + _POINTS_AT_ONCE)
            part = with_ones[here]  # [piece of points, k + 1]
            compared = memory[: part.shape[0] * rows.shape[0]].reshape(part.shape[0], rows.shape[0])
            np.matmul(part, with_norms.T, out=compared)  # [piece of points, piece of the set]
            if itself is not None:
                own = itself[here] - begin  # [piece of points]
                inside = np.flatnonzero((own >= 0) & (own < rows.shape[0]))
                compared[inside, own[inside]] = np.inf
            lowest = compared.argmin(axis=1)  # [piece of points]
            values = compared[np.arange(compared.shape[0]), lowest]  # [piece of points]
            better = values < best[here]  # [piece of points]
            best[here][better] = values[better]
            place[here][better] = lowest[better] + begin
            nearest[here][better] = rows[lowest[better]]
    distances = np.where(place >= 0, np.linalg.norm(points - nearest, axis=1), np.inf)  # [points]
    return place, distances


def _pieces(among: Iterable[NDArray[np.float64]]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield pieces of the blocks, each with the place of its first row in the set."""
    begin = 0
    for block in among:
        for start in range(0, block.shape[0], _AMONG_AT_ONCE):
            yield begin + start, block[start : start + _AMONG_AT_ONCE]
        begin += block.shape[0]

"""Exact nearest neighbours in the whitened dominant subspace, by blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS_AT_ONCE = 1024
_AMONG_AT_ONCE = 512  # so that a block of distances, 4 MiB, stays near the processor


def nearest_rows(
    points: NDArray[np.float64], among: NDArray[np.float64], itself: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find for every point the nearest row of a set.

    With ``|p - a|^2 = |p|^2 + (|a|^2 - 2 p a)`` one matrix product ranks the rows of a block; the distance to the
    nearest one is then computed anew from the difference, so that equal rows are at a distance of exactly zero.

    Parameters
    ----------
    points
        Float64 [points, k].
    among
        The set, float64 [set, k].
    itself
        For points that belong to the set: the place of each in `among`, int64 [points], which does not count.

    Returns
    -------
    tuple
        Place in `among` of the nearest row, int64 [points], and its distance, float64 [points]. Where there is none,
        -1 and infinity.
    """
    best = np.full(points.shape[0], np.inf)  # [points]
    place = np.full(points.shape[0], -1, dtype=np.int64)  # [points]
    with_ones = np.hstack([-2.0 * points, np.ones((points.shape[0], 1))])  # [points, k + 1]
    with_norms = np.hstack([among, np.einsum("sk,sk->s", among, among)[:, None]])  # [set, k + 1]
    for start in range(0, points.shape[0], _POINTS_AT_ONCE):
        here = slice(start, start + _POINTS_AT_ONCE)
        for begin in range(0, among.shape[0], _AMONG_AT_ONCE):
            compared = with_ones[here] @ with_norms[begin : begin + _AMONG_AT_ONCE].T  # [piece, block]
            if itself is not None:
                own = itself[here] - begin  # [piece]
                inside = np.flatnonzero((own >= 0) & (own < compared.shape[1]))
                compared[inside, own[inside]] = np.inf
            lowest = compared.argmin(axis=1)  # [piece]
            values = compared[np.arange(compared.shape[0]), lowest]  # [piece]
            better = values < best[here]  # [piece]
            best[here][better] = values[better]
            place[here][better] = lowest[better] + begin
    found = place >= 0  # [points]
    distances = np.full(points.shape[0], np.inf)  # [points]
    distances[found] = np.linalg.norm(points[found] - among[place[found]], axis=1)
    return place, distances

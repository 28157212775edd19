"""The one order of rows: by leverage score, highest first, and equal scores in pool order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def order_by_score(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places that put rows in order: score descending, then row position ascending.

    Parameters
    ----------
    scores
        Leverage scores as written, float64 [scored].
    rows
        Row position in the pool of each score, int64 [scored], in any order.

    Returns
    -------
    Int64 [scored]: indices into `scores` and `rows`.

    Raises
    ------
    ValueError
        If the two differ in length, or a score is NaN and so has no place.
    """
    if scores.ndim != 1 or scores.shape != rows.shape:
        raise ValueError(f"scores and rows must be two vectors of one length: {scores.shape} and {rows.shape}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, so it has no place in the order")
    return np.lexsort((rows, -scores)).astype(np.int64, copy=False)


def rank_rows(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the 1-based rank of every score; see `order_by_score` for the order, arguments and errors.

    Returns
    -------
    Int64 [scored], parallel to `scores`.
    """
    ranks = np.empty(scores.shape[0], dtype=np.int64)  # [scored]
    ranks[order_by_score(scores, rows)] = np.arange(1, scores.shape[0] + 1)
    return ranks

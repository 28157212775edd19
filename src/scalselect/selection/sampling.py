"""Weighted sampling without replacement by one random number for each row (successive sampling)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.selection.candidates import Candidates


def race_order(weights: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return places in the order in which successive sampling without replacement draws them.

    Each next row is drawn with probability proportional to its weight among those that remain. The exponential race
    does it with one number for each row: the row whose exponential variable of rate `weights` is smallest comes first
    (Efraimidis and Spirakis 2006). Rows of weight zero come last, in the order of their draws.

    Parameters
    ----------
    weights
        Not negative, float64 [candidates].
    draws
        Uniform numbers in [0, 1), float64 [candidates].

    Returns
    -------
    Int64 [candidates].
    """
    arrivals = np.full(weights.shape, np.inf)
    np.divide(-np.log1p(-draws), weights, out=arrivals, where=weights > 0)
    return np.lexsort((draws, arrivals)).astype(np.int64, copy=False)


def joint_leverage(candidates: Candidates) -> NDArray[np.float64]:
    """Return ``||vision||^2 / k + ||instruction||^2 / k'`` of every row, float64 [candidates].

    It is the squared norm in the two whitened dominant subspaces side by side, each scaled by its rank, so that
    both have the same say.
    """
    total = np.zeros(len(candidates))
    for vectors in (candidates.vision, candidates.instruction):
        if vectors is not None:
            total += np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64) / vectors.shape[1]
    return total

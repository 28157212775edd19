"""Effective rank: over how many directions of the dominant subspace a set of rows is spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AT_ONCE = 65536


def effective_rank(
    whitened: NDArray[np.float32], singular_values: NDArray[np.float64], places: NDArray[np.int64] | None = None
) -> float:
    """Return exp of the entropy of the shares of energy, ``exp(-sum_j p_j ln p_j)``, p_j = t_j^2 / sum_i t_i^2.

    The t_j are the singular values of the set's coordinates u * s in the dominant subspace, centred about the set's
    own mean. From 1 (all on one line) to k (spread evenly). After Roy and Vetterli, *The effective rank* (EUSIPCO
    2007), who take shares of the singular values; shares of their squares are those of the method's energy.

    Parameters
    ----------
    whitened
        Coordinates u of all scored rows, float32 [scored, k]; may lie in a file.
    singular_values
        Singular values s, float64 [k].
    places
        Places in `whitened` of the set's rows, int64 [set]; None for all.

    Returns
    -------
    float
        NaN where all rows are equal, or there is none.
    """
    rows = whitened.shape[0] if places is None else places.size
    pieces = [slice(start, start + _AT_ONCE) for start in range(0, rows, _AT_ONCE)]

    def coordinates(piece: slice) -> NDArray[np.float64]:
        part = whitened[piece] if places is None else whitened[places[piece]]  # [piece, k]
        return part.astype(np.float64) * singular_values

    total, scatter = np.zeros(singular_values.size), np.zeros((singular_values.size,) * 2)
    for piece in pieces:
        total += coordinates(piece).sum(axis=0)
    mean = total / max(rows, 1)  # [k]
    largest = 0.0
    for piece in pieces:
        part = coordinates(piece)  # [piece, k]
        largest = max(largest, float(np.abs(part).max(initial=0.0)))
        part -= mean
        scatter += part.T @ part
    energies = np.clip(np.linalg.eigvalsh(scatter), 0.0, None)  # [k]
    if energies.sum() <= rows * (1e-12 * largest) ** 2:  # what rounding leaves of equal rows
        return math.nan
    shares = energies[energies > 0] / energies.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))

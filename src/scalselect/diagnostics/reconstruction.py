"""Reconstruction error: how much of the pool's energy lies outside of what the chosen rows span."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reconstruction_errors(pool: NDArray[np.float64], chosen: NDArray[np.float64], rank: int) -> dict[str, float]:
    """Return the share of the pool's energy outside of the span of the chosen rows' directions.

    With C = T D W^T the singular value decomposition of the chosen rows and P the pool rows, the error of the first j
    directions is ``1 - |P W_j|^2 / |P|^2`` (Frobenius norms).

    Parameters
    ----------
    pool
        Centred representations of a sample of the pool, float64 [sampled, hidden].
    chosen
        The same of chosen rows, centred by the same mean, float64 [chosen, hidden].
    rank
        Number of leading directions.

    Returns
    -------
    dict
        `leading`: outside of the `rank` leading directions, or all where there are fewer; `span`: outside of the whole
        span. NaN where the pool's sample has no energy.
    """
    energy = float(np.einsum("rd,rd->", pool, pool))
    if energy == 0:
        return {"leading": math.nan, "span": math.nan}
    held = _energy_by_direction(pool, chosen) / energy  # [directions]
    return {"leading": max(0.0, 1.0 - float(held[:rank].sum())), "span": max(0.0, 1.0 - float(held.sum()))}


def error_of_basis(pool: NDArray[np.float64], basis: NDArray[np.float64]) -> float:
    """Return the share of energy of centred rows [sampled, hidden] outside of an orthonormal basis [hidden, k]."""
    energy = float(np.einsum("rd,rd->", pool, pool))
    return math.nan if energy == 0 else max(0.0, 1.0 - float(np.sum((pool @ basis) ** 2)) / energy)


def _energy_by_direction(pool: NDArray[np.float64], chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pool's energy along each right singular vector of the chosen rows, strongest first."""
    rows, hidden = chosen.shape
    few = rows < hidden
    # The smaller of the two products has the same eigenvalues, the squared singular values.
    product = chosen @ chosen.T if few else chosen.T @ chosen  # [smaller, smaller]
    values, vectors = linalg.eigh(product, overwrite_a=True, check_finite=False)  # ascending
    values, vectors = values[::-1], vectors[:, ::-1]
    # Below this a direction is rounding: sums of this many products carry that much of the largest.
    usable = int(np.count_nonzero(values > np.finfo(np.float64).eps * max(rows, hidden) * values.max(initial=0.0)))
    if usable == 0:
        return np.zeros(0)
    kept = vectors[:, :usable]  # [smaller, usable]
    # W itself, or P W = (P C^T) T / D, without W.
    along = (pool @ chosen.T) @ (kept / np.sqrt(values[:usable])) if few else pool @ kept  # [sampled, usable]
    held: NDArray[np.float64] = np.einsum("rj,rj->j", along, along)  # [usable]
    return held

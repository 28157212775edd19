"""Leverage scores of representations on the dominant subspace (method, stage 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.subspace.blocks import check_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.records import DominantSubspace

_SCORED_AT_ONCE = 256
_FORMATTED_AT_ONCE = 65536


def leverage_scores(block: NDArray[Any], subspace: DominantSubspace) -> NDArray[np.float64]:
    """Return the squared norm of each row's left singular vectors' entries, ``sum_{j<=k} U_ij^2``.

    Computed as ``|| (x - mean) V_k diag(1/s_1 .. 1/s_k) ||^2``, which needs no left singular vector. For rows that
    the subspace was found from, scores lie in [0, 1] up to rounding and sum to k over all of them.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].
    subspace
        The dominant subspace of all representations.

    Returns
    -------
    Float64 [rows].

    Raises
    ------
    ValueError
        If the block has another shape or number type, or a value that is not finite.
    """
    check_block(block, subspace.mean.shape[0])
    whitening = subspace.basis / subspace.singular_values  # [hidden, k]
    scores = np.empty(block.shape[0])  # [rows]
    # Every product has the same shape, the last one with rows that are not read: BLAS takes other paths for other
    # shapes, and their last digits differ. So a row's score does not depend on the block that it came in.
    centred = np.zeros((_SCORED_AT_ONCE, block.shape[1]))  # [piece, hidden]
    for start in range(0, block.shape[0], _SCORED_AT_ONCE):
        part = block[start : start + _SCORED_AT_ONCE]  # [up to piece, hidden]
        np.subtract(part, subspace.mean, out=centred[: part.shape[0]], dtype=np.float64)
        left = centred @ whitening  # [piece, k]
        squares = np.einsum("rk,rk->r", left, left)  # [piece]
        scores[start : start + part.shape[0]] = squares[: part.shape[0]]
    return scores


def as_written(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round scores to the 12 significant decimal digits with which they are written and ranked.

    The digits beyond are rounding errors: they would decide between rows that are equal, and differ between machines.

    Parameters
    ----------
    scores
        Float64 [rows].

    Returns
    -------
    Float64 [rows]: for each score the number nearest to its 12 digits, as ``float(f"{score:.11e}")``; zeros
    without a sign.
    """
    written = np.empty(scores.shape[0])  # [rows]
    for start in range(0, scores.shape[0], _FORMATTED_AT_ONCE):
        part = scores[start : start + _FORMATTED_AT_ONCE].tolist()
        written[start : start + len(part)] = [float(text) for text in map("{:.11e}".format, part)]
    return written + 0.0  # -0.0 + 0.0 is 0.0

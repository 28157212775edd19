"""Leverage scores of representations on the dominant subspace (method, stage 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.subspace.blocks import centred, check_block

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    scores = np.empty(block.shape[0])  # [rows]
    for start, count, _, left in _pieces(block, subspace):
        scores[start : start + count] = np.einsum("rk,rk->r", left, left)[:count]
    return scores


def coordinates_of(
    block: NDArray[Any], subspace: DominantSubspace
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return leverage scores with what they are made of: each row's whitened coordinates, and its length.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].
    subspace
        The dominant subspace of all representations.

    Returns
    -------
    tuple
        Scores as `leverage_scores` gives them, float64 [rows]; coordinates ``(x - mean) V_k diag(1/s)``, the rows of
        U_k, whose squared norms are the scores, float64 [rows, k]; norms of the centred rows, float64 [rows].

    Raises
    ------
    ValueError
        As `leverage_scores`.
    """
    scores, norms = np.empty(block.shape[0]), np.empty(block.shape[0])  # [rows]
    coordinates = np.empty((block.shape[0], subspace.rank))  # [rows, k]
    for start, count, rows, left in _pieces(block, subspace):
        here = slice(start, start + count)
        coordinates[here] = left[:count]
        scores[here] = np.einsum("rk,rk->r", left, left)[:count]
        norms[here] = np.sqrt(np.einsum("rd,rd->r", rows[:count], rows[:count]))
    return scores, coordinates, norms


def _pieces(
    block: NDArray[Any], subspace: DominantSubspace
) -> Iterator[tuple[int, int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield start and number of the rows of each piece, the rows centred [piece, hidden], and whitened [piece, k].

    Every product has the same shape, the last one with rows that are not to be read: BLAS takes other paths for other
    shapes, and their last digits differ. So a row's score does not depend on the block that it came in.
    """
    check_block(block, subspace.mean.shape[0])
    whitening = subspace.basis / subspace.singular_values  # [hidden, k]
    rows = np.zeros((_SCORED_AT_ONCE, block.shape[1]))  # [piece, hidden]
    for start in range(0, block.shape[0], _SCORED_AT_ONCE):
        part = block[start : start + _SCORED_AT_ONCE]  # [up to piece, hidden]
        centred(part, subspace, out=rows[: part.shape[0]])
        yield start, part.shape[0], rows, rows @ whitening


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

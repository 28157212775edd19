"""Which rows of a matrix are equal bit for bit, without sorting whole rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 2**21  # numbers at a time


def group_equal_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct rows of a matrix numbers, in the order in which they first occur.

    Parameters
    ----------
    matrix
        Float32 [rows, columns]. Rows are compared as bits: 0.0 and -0.0 differ.

    Returns
    -------
    The number of every row, int64 [rows], and the first row of each number, ascending, int64 [distinct].
    """
    keys = _keys(matrix)
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    leader = first[number]  # [rows] the first row of the same key
    strangers = _rows_unlike(matrix, leader)  # equal keys of different rows: never seen, but not impossible
    leader[strangers] = strangers
    distinct, group = np.unique(leader, return_inverse=True)
    return group.astype(np.int64, copy=False), distinct.astype(np.int64, copy=False)


def _blocks(matrix: NDArray[Any]) -> list[slice]:
    rows = max(1, _BLOCK // max(1, matrix.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(matrix), rows)]


def _keys(matrix: NDArray[np.float32]) -> NDArray[np.uint64]:
    factors = np.random.Generator(np.random.PCG64(0)).integers(0, 2**64, matrix.shape[1], dtype=np.uint64) | np.uint64(
        1
    )
    keys = np.empty(len(matrix), dtype=np.uint64)
    for block in _blocks(matrix):
        bits = np.ascontiguousarray(matrix[block], dtype=np.float32).view(np.uint32).astype(np.uint64)
        bits *= factors  # modulo 2^64
        bits ^= bits >> np.uint64(29)
        keys[block] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return keys


def _rows_unlike(matrix: NDArray[np.float32], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that differ from the row `other` names for them."""
    unlike = np.zeros(len(matrix), dtype=np.bool_)
    later = np.flatnonzero(other != np.arange(len(matrix)))
    step = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, len(later), step):
        rows = later[start : start + step]
        ours, theirs = (np.ascontiguousarray(matrix[which]).view(np.uint32) for which in (rows, other[rows]))
        unlike[rows] = (ours != theirs).any(axis=1)
    return np.flatnonzero(unlike)

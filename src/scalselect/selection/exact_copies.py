"""Rows that are exact copies: equal content hashes, of which the first row is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def first_copies(keys: NDArray[np.uint64], order: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Say of which row each row is a copy.

    Parameters
    ----------
    keys
        128-bit hashes of what makes rows equal (image bytes and conversation), uint64 [rows, 2]. A row of zeros has
        no hash and is no copy.
    order
        All rows, those to be kept first, int64 [rows]; pool order if None.

    Returns
    -------
    The row that is kept in its stead, or -1 where the row itself is kept, int64 [rows].

    Raises
    ------
    ValueError
        If the keys are not [rows, 2], or the order is not of as many rows.
    """
    if keys.ndim != 2 or keys.shape[1] != 2:  # noqa: PLR2004 - two halves of 128 bits
        raise ValueError(f"keys must be [rows, 2]: {keys.shape}")
    rows = len(keys)
    order = np.arange(rows, dtype=np.int64) if order is None else order
    if order.shape != (rows,):
        raise ValueError(f"the order must name each of the {rows} rows once: {order.shape}")
    hashed = order[(keys[order] != 0).any(axis=1)]
    by_key = hashed[np.lexsort((keys[hashed, 1], keys[hashed, 0]))]  # stable: the first in order leads its equals
    fresh = np.ones(len(by_key), dtype=np.bool_)
    fresh[1:] = (keys[by_key[1:]] != keys[by_key[:-1]]).any(axis=1)
    leaders = by_key[fresh][np.cumsum(fresh) - 1]
    copy_of = np.full(rows, -1, dtype=np.int64)
    copy_of[by_key[~fresh]] = leaders[~fresh]
    return copy_of

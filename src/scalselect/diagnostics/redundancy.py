"""Redundancy: how much of a chosen set is said twice, by near-copies, shared images or exact copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image_measures(row_of: NDArray[np.int64], image_of: NDArray[np.int64]) -> dict[str, Any]:
    """Count images and the rows that show each of them.

    Parameters
    ----------
    row_of, image_of
        One pair of codes for every image of every row of the set, int64 [pairs]. A row that shows an image twice
        counts once.

    Returns
    -------
    dict
        `images`, different ones; `rows_an_image`, the mean over them; `most_rows_an_image`. None without images.
    """
    pairs = np.unique(np.stack([image_of, row_of], axis=1), axis=0)  # [different pairs, 2]
    if not pairs.size:
        return {"images": 0, "rows_an_image": None, "most_rows_an_image": None}
    counts = np.unique(pairs[:, 0], return_counts=True)[1]  # [images]
    return {
        "images": counts.size,
        "rows_an_image": float(counts.mean()),
        "most_rows_an_image": int(counts.max()),
    }


def copies(content_of: NDArray[np.int64]) -> int:
    """Return how many rows repeat an earlier one.

    Parameters
    ----------
    content_of
        A code for what each row shows and says, int64 [rows].
    """
    return int(content_of.size - np.unique(content_of).size)


def cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine between each row of one array and the same row of another.

    Parameters
    ----------
    first, second
        Centred representations, float64 [rows, hidden].

    Returns
    -------
    Float64 [rows], between -1 and 1. A row of zeros, the mean itself, is like another row of zeros (1) and like nothing
    else (0).
    """
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)  # [rows] each
    both = norms[0] * norms[1]
    products = np.einsum("rd,rd->r", first, second)  # [rows]
    found = np.divide(products, both, out=np.zeros_like(products), where=both > 0)
    found[(norms[0] == 0) & (norms[1] == 0)] = 1.0
    bounded: NDArray[np.float64] = np.clip(found, -1.0, 1.0)
    return bounded

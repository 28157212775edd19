"""Random choices that are the same for the same seed: the choice to compare with, and samples of rows to look at."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_VECTORS = 4096
_COMPARED = 5 * 10**10  # multiplications of one search for nearest rows: 20,000 rows against 96,000 at k = 18
_FEWEST_COMPARED = 250


def random_choice(rows: NDArray[np.int64], size: int, seed: int, purpose: str) -> NDArray[np.int64]:
    """Draw rows without replacement, each as likely as any other.

    Parameters
    ----------
    rows
        Row positions, ascending, int64 [rows].
    size
        Number of rows to draw; all of them where there are no more.
    seed, purpose
        Decide the draw; another purpose gives an independent one.

    Returns
    -------
    Int64 [size at most], ascending.
    """
    if size >= rows.size:
        return rows
    generator = np.random.default_rng([seed, zlib.crc32(purpose.encode())])
    places = generator.choice(rows.size, size, replace=False, shuffle=False)  # [size]
    drawn: NDArray[np.int64] = rows[np.sort(places)]
    return drawn


def vectors_to_sample(hidden: int, values: int) -> int:
    """Return how many vectors of length `hidden` are looked at: 4,096, or fewer that hold `values` numbers in all."""
    return max(1, min(_MOST_VECTORS, values // hidden))


def rows_to_search(most: int, among: int, rank: int) -> int:
    """Return for how many rows the nearest of `among` rows are searched: `most`, or fewer to bound the time.

    Parameters
    ----------
    most
        Rows to look at where time allows.
    among
        Rows that each is compared with.
    rank
        Dimension k of the vectors compared.
    """
    affordable = _COMPARED // max(1, among * (rank + 8))
    return min(most, max(affordable, _FEWEST_COMPARED))

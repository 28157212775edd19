"""How many rows lie where on the map: all scored rows, counted in cells for every pair of axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.report_page.map_points import Axes

_FEWEST, _MOST = 16, 96  # cells along each axis


def densities(axes: Axes) -> NDArray[np.uint32]:
    """Return the number of rows in each cell, for each of `axes.pairs`, uint32 [pairs, cells, cells].

    There are more cells where there are more rows, so that those of a small pool hold several. The first axis of a
    pair grows along the last dimension, the second along the one before. Rows beyond the ends of an axis are counted in
    its first or last cells.
    """
    cells = min(_MOST, max(_FEWEST, math.isqrt(axes.values.shape[1])))
    places = [_cells(line, bounds, cells) for line, bounds in zip(axes.values, axes.ranges, strict=True)]
    counts = [np.bincount(places[y] * cells + places[x], minlength=cells * cells) for x, y in axes.pairs]
    return np.array(counts, dtype=np.uint32).reshape(-1, cells, cells)


def _cells(values: NDArray[np.float32], bounds: NDArray[np.float64], cells: int) -> NDArray[np.int64]:
    """Return in which cell of an axis each value lies, int64 [scored]."""
    low, high = bounds
    share = (values.astype(np.float64) - low) / (high - low)
    places: NDArray[np.int64] = np.clip(share * cells, 0, cells - 1).astype(np.int64)
    return places

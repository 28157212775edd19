"""Coverage: how far the rows of the pool are from the nearest chosen row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scalselect.diagnostics.nearest import nearest_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def whitening_scale(scored: int, rank: int) -> float:
    """Return the factor that makes the mean squared norm of whitened coordinates one.

    The columns of U have length one, so the squared norms of its N rows sum to k and their mean is k / N.

    Parameters
    ----------
    scored
        Number N of all scored rows.
    rank
        Dimension k of the dominant subspace.
    """
    return math.sqrt(scored / rank)


def coverage_measures(pool: NDArray[np.float64], chosen: Iterable[NDArray[np.float64]]) -> dict[str, float]:
    """Measure distances from pool rows to the nearest chosen row, zero for chosen ones.

    Parameters
    ----------
    pool
        Whitened, scaled coordinates of a sample of the pool, float64 [sampled, k].
    chosen
        The same of all chosen rows, block after block, float64 [block, k] each.

    Returns
    -------
    dict
        `mean_distance` and `distance_95`, the 95th percentile; infinite where nothing was chosen.
    """
    _, distances = nearest_rows(pool, chosen)  # [sampled]
    if not np.isfinite(distances).all():  # a quantile among infinities is no number
        return {"mean_distance": math.inf, "distance_95": math.inf}
    return {"mean_distance": float(distances.mean()), "distance_95": float(np.quantile(distances, 0.95))}

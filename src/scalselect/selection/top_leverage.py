"""The method's rule: the eligible rows of highest leverage (method, stage 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scalselect.records import Selection
from scalselect.selection.ranking import order_by_score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def select_top_leverage(scores: NDArray[np.float64], rows: NDArray[np.int64], n: int) -> Selection:
    """Choose the `n` eligible rows of highest leverage score, equal scores in pool order.

    Parameters
    ----------
    scores
        Leverage scores of the eligible rows, as written, float64 [eligible].
    rows
        Row position in the pool of each score, int64 [eligible], in any order.
    n
        Number of rows to choose, from 1 to the number of eligible rows.

    Raises
    ------
    ValueError
        If `n` is out of range, the two vectors differ in length, or a score is NaN.
    """
    eligible = scores.shape[0]
    if not 1 <= n <= eligible:
        raise ValueError(f"n must lie between 1 and the {eligible} eligible rows: {n}")
    chosen = order_by_score(scores, rows)[:n]  # [n]
    lowest_score = float(scores[chosen[-1]])
    return Selection(
        rows=np.sort(rows[chosen]),
        eligible=eligible,
        lowest_score=lowest_score,
        ties_at_cut=int(np.count_nonzero(scores == lowest_score)),
        refused=np.empty(0, dtype=np.int64),
    )

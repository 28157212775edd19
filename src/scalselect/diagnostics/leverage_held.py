"""How leverage is spread over the pool, how much of it the chosen rows hold, and what lies near the cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CURVE_PERCENT = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7.5, 10, 12.5, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100)
NEAR_TIE = 1e-6  # relative difference of scores up to which the order of two rows says nothing
_LOW = 0.01


def leverage_measures(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Describe the scores of all rows and the part of their sum that the chosen rows hold.

    Parameters
    ----------
    scores
        Leverage scores of all scored rows, float64 [scored].
    chosen
        Which of them were chosen, bool [scored].

    Returns
    -------
    dict
        `sum` (k up to rounding), `mean`, `median`, `highest`; `low`, the rows with less than a hundredth of the mean;
        `held`, the chosen rows' share of the sum; `curve`, for each of `CURVE_PERCENT` the `rows` that this percentage
        of the scored rows comes to (rounded down, one at least) and `held`, the share of the highest so many.
    """
    total = float(scores.sum())
    falling = np.cumsum(np.sort(scores)[::-1])  # [scored]
    counts = [max(1, int(percent * scores.size / 100 + 1e-9)) for percent in CURVE_PERCENT]
    return {
        "sum": total,
        "mean": total / scores.size,
        "median": float(np.median(scores)),
        "highest": float(scores.max()),
        "low": int(np.count_nonzero(scores < _LOW * total / scores.size)),
        "held": float(scores[chosen].sum()) / total,
        "curve": [
            {"percent": percent, "rows": rows, "held": min(float(falling[rows - 1]) / total, 1.0)}
            for percent, rows in zip(CURVE_PERCENT, counts, strict=True)
        ],
    }


def cut_measures(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Describe what lies just above and just below the lowest chosen score.

    Parameters
    ----------
    scores
        Scores of the rows that could have been chosen, float64 [candidates].
    chosen
        Which of them were chosen, bool [candidates].

    Returns
    -------
    dict
        `lowest_score` chosen; `higher_not_chosen`, the candidates above it that were passed over. Where that is 0, the
        choice was made by score alone, and `ties` (equal scores) and `near_ties` (within `NEAR_TIE` of it, relative;
        ties included) say how many rows, `chosen` and `not_chosen`, could as well have been on the other side; else
        both are None.
    """
    if not chosen.any():
        return {"lowest_score": None, "higher_not_chosen": None, "ties": None, "near_ties": None}
    lowest = float(scores[chosen].min())
    higher = int(np.count_nonzero(scores[~chosen] > lowest))
    facts: dict[str, Any] = {"lowest_score": lowest, "higher_not_chosen": higher, "ties": None, "near_ties": None}
    if higher == 0:
        for name, width in (("ties", 0.0), ("near_ties", NEAR_TIE * lowest)):
            near = np.abs(scores - lowest) <= width  # [candidates]
            facts[name] = {
                "chosen": int(np.count_nonzero(near & chosen)),
                "not_chosen": int(np.count_nonzero(near & ~chosen)),
            }
    return facts

"""Balance: which values of a property the chosen set shows more or less often than the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_TOLD = 10


def balance_measures(
    names: Sequence[Any], pool: NDArray[np.int64], chosen: NDArray[np.int64], random: NDArray[np.int64]
) -> dict[str, Any]:
    """Compare how often each value of a property occurs.

    Parameters
    ----------
    names
        The values, each once, [values].
    pool, chosen, random
        Rows with each value, int64 [values], of the pool, the chosen set and the random choice.

    Returns
    -------
    dict
        `values`, how many different ones the pool and the chosen set have; `total_variation` of `chosen` and of
        `random`: half the summed absolute difference of shares to the pool's, from 0 (alike) to 1 (nothing in common);
        `over` and `under`: the `MOST_TOLD` values whose share grew and fell most, each with `value` and, of `pool`,
        `chosen` and `random`, the share, and `pool_rows` and `chosen_rows`.
    """
    shares = [counts / max(int(counts.sum()), 1) for counts in (pool, chosen, random)]  # each [values]
    grown = shares[1] - shares[0]  # [values]
    places = sorted(range(len(names)), key=lambda place: (-abs(grown[place]), str(names[place])))

    def told(place: int) -> dict[str, Any]:
        return {
            "value": names[place],
            "pool": float(shares[0][place]),
            "chosen": float(shares[1][place]),
            "random": float(shares[2][place]),
            "pool_rows": int(pool[place]),
            "chosen_rows": int(chosen[place]),
        }

    return {
        "values": int(np.count_nonzero(pool + chosen)),
        "total_variation": {
            "chosen": _total_variation(shares[1], shares[0], chosen),
            "random": _total_variation(shares[2], shares[0], random),
        },
        "over": [told(place) for place in places if grown[place] > 0][:MOST_TOLD],
        "under": [told(place) for place in places if grown[place] < 0][:MOST_TOLD],
    }


def _total_variation(share: NDArray[np.float64], pool: NDArray[np.float64], counts: NDArray[np.int64]) -> float | None:
    return float(np.abs(share - pool).sum() / 2) if counts.sum() else None

"""Lengths of conversations in ranges that a person can read: each about half as wide as it is long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POWERS = range(3, 40)
# 16, 24, 32, 48, 64, 96, ...: where a range begins.
STARTS = np.array([start for power in _POWERS for start in (2 << power, 3 << power)], dtype=np.int64)


def length_bins(lengths: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the ranges that occur, rising, and each length's place among them.

    Parameters
    ----------
    lengths
        In tokens, int64 [rows]; below zero where it is not known.

    Returns
    -------
    names
        `below 16`, `16 to 23`, ...; first `not known`, where some are not.
    codes
        Int64 [rows].
    """
    places = np.where(lengths < 0, -1, np.searchsorted(STARTS, lengths, side="right"))  # [rows]
    found, codes = np.unique(places, return_inverse=True)
    return [_name(int(place)) for place in found], codes.astype(np.int64)


def _name(place: int) -> str:
    if place < 0:
        return "not known"
    if place == 0:
        return f"below {STARTS[0]}"
    if place == STARTS.size:
        return f"{STARTS[-1]:,} or more"
    return f"{STARTS[place - 1]:,} to {STARTS[place] - 1:,}"

"""Which rows the map shows as points, along which axes, and what part of each axis it covers."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_POINTS = 20_000
MOST_AXES = 4

_BULK = (0.001, 0.999)
_MARGIN = 0.5  # of the width of the bulk, at most, on either side


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Axes:
    """What can be laid along an axis of the map.

    Attributes
    ----------
    names
        In words, one for each.
    values
        Of all scored rows, float32 [axes, scored].
    ranges
        First and last value that each axis covers, float64 [axes, 2].
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    ranges: NDArray[np.float64]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two axes."""
        return list(combinations(range(len(self.names)), 2))

    def outside(self) -> NDArray[np.int64]:
        """Return how many rows of each pair lie beyond the ends of its axes, int64 [pairs]."""
        low, high = self.ranges[:, :1], self.ranges[:, 1:]
        beyond = (self.values < low) | (self.values > high)  # [axes, scored]
        return np.array([np.count_nonzero(beyond[x] | beyond[y]) for x, y in self.pairs], dtype=np.int64)


def map_axes(coordinates: NDArray[np.float32], scores: NDArray[np.float64]) -> Axes:
    """Return the axes of the map: the first dominant coordinates, and beside a single one the score.

    Parameters
    ----------
    coordinates
        Whitened coordinates of the scored rows, float32 [scored, k].
    scores
        Their leverage scores, float64 [scored].
    """
    values = np.ascontiguousarray(coordinates[:, :MOST_AXES].T)  # [axes, scored]
    names = [f"coordinate {number + 1}" for number in range(len(values))]
    if len(values) == 1:
        values = np.vstack([values, scores.astype(np.float32)[np.newaxis]])
        names.append("leverage score")
    ranges = np.array([_range(line) for line in values], dtype=np.float64).reshape(-1, 2)
    return Axes(names=tuple(names), values=values, ranges=ranges)


def map_rows(scored: NDArray[np.int64], shown: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], int]:
    """Return the rows that are points, ascending, int64 [points], and how many of them were drawn.

    Parameters
    ----------
    scored
        Rows with a score, ascending, int64 [scored]; `MOST_POINTS` of them are drawn, each as likely as any other.
    shown
        Rows that are points in any case if they have a score, int64.
    """
    drawn = scored
    if scored.size > MOST_POINTS:
        generator = np.random.default_rng([seed, zlib.crc32(b"points of the map")])
        drawn = scored[generator.choice(scored.size, MOST_POINTS, replace=False, shuffle=False)]
    return np.union1d(drawn, np.intersect1d(shown, scored)).astype(np.int64), int(drawn.size)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return what an axis covers: all values, or the bulk of them and a margin where a few lie far out."""
    if not values.size:
        return -1.0, 1.0
    low, high = (float(each) for each in np.quantile(values, _BULK))
    margin = _MARGIN * (high - low)
    first, last = max(float(values.min()), low - margin), min(float(values.max()), high + margin)
    if first == last:  # of equal values
        return first - 1.0, last + 1.0
    return first, last

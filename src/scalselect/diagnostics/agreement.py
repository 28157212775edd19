"""How two runs over the same rows agree: chosen sets, order of scores, directions of subspaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP_PERCENT = (1, 5, 16, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOverlap:
    """What two chosen sets share.

    Attributes
    ----------
    rows_a, rows_b, shared
        Rows in the first set, in the second, in both.
    at_random
        Rows that two independent random choices of these sizes would share, on average.
    """

    rows_a: int
    rows_b: int
    shared: int
    at_random: float

    @property
    def jaccard(self) -> float:
        """Rows in both over rows in either, between 0 and 1."""
        return self.shared / (self.rows_a + self.rows_b - self.shared)

    @property
    def share_of_a(self) -> float:
        """Share of the first set that the second has as well."""
        return self.shared / self.rows_a

    @property
    def share_of_b(self) -> float:
        """Share of the second set that the first has as well."""
        return self.shared / self.rows_b


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOverlap:
    """What the highest scores of two runs share.

    Attributes
    ----------
    percent
        How much of the rows scored in both is looked at; of two random orders, that much would be shared.
    rows
        The number of rows that it comes to, rounded down, one at least.
    shared
        Those among the highest so many in both.
    """

    percent: int
    rows: int
    shared: int

    @property
    def share(self) -> float:
        """Share of the rows that both have, between 0 and 1."""
        return self.shared / self.rows


def set_overlap(
    a: NDArray[np.int64], b: NDArray[np.int64], eligible_a: NDArray[np.int64], eligible_b: NDArray[np.int64]
) -> SetOverlap | None:
    """Compare two chosen sets.

    A random choice takes every eligible row with the same probability, so the expected number of shared rows is the
    number eligible in both times both probabilities.

    Parameters
    ----------
    a, b
        Chosen row positions, each once, int64.
    eligible_a, eligible_b
        Row positions that could have been chosen in each run, each once, int64.

    Returns
    -------
    SetOverlap
        None where a set is empty.
    """
    if not (a.size and b.size):
        return None
    in_both = np.intersect1d(eligible_a, eligible_b, assume_unique=True).size
    at_random = in_both * (a.size / max(eligible_a.size, 1)) * (b.size / max(eligible_b.size, 1))
    shared = np.intersect1d(a, b, assume_unique=True).size
    return SetOverlap(rows_a=a.size, rows_b=b.size, shared=shared, at_random=at_random)


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation of two scores of the same rows, float64 [rows]; ties share their mean rank.

    Returns
    -------
    float
        Between -1 and 1; NaN where there are fewer than two rows, or all of one are equal.
    """
    if a.size < 2:  # noqa: PLR2004  two points make an order
        return math.nan
    ranks = [stats.rankdata(scores) - (scores.size + 1) / 2 for scores in (a, b)]  # each [rows], of mean zero
    norms = [float(np.linalg.norm(rank)) for rank in ranks]
    if not all(norms):
        return math.nan
    return float(np.clip(ranks[0] @ ranks[1] / (norms[0] * norms[1]), -1.0, 1.0))


def top_overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[TopOverlap, ...]:
    """Compare the rows of highest score of two runs, equal scores in order, at each of `TOP_PERCENT`.

    Parameters
    ----------
    a, b
        Two scores of the same rows, float64 [rows].
    """
    if not a.size:
        return ()
    order_a, order_b = np.argsort(-a, kind="stable"), np.argsort(-b, kind="stable")  # [rows] each
    found = []
    for percent in TOP_PERCENT:
        rows = max(1, percent * a.size // 100)
        shared = np.intersect1d(order_a[:rows], order_b[:rows], assume_unique=True).size
        found.append(TopOverlap(percent=percent, rows=rows, shared=shared))
    return tuple(found)


def principal_angles(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal angles between two subspaces, smallest first, in degrees, float64 [smaller rank].

    After Björck and Golub, *Numerical methods for computing angles between linear subspaces* (1973), as
    `scipy.linalg.subspace_angles` has them: small angles by their sine, so that they are exact too.

    Parameters
    ----------
    a, b
        Bases, float64 [hidden, k] and [hidden, another k].
    """
    angles: NDArray[np.float64] = np.degrees(linalg.subspace_angles(a, b))[::-1]
    return angles

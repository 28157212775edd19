"""Rows without images, which no score ranks: left out, all taken, or the share that rows with images give."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.records import Budget

_PURPOSE = zlib.crc32(b"text-only rows")  # these draws have nothing to do with those of a strategy


@dataclass(frozen=True, slots=True, eq=False)
class TextOnlyRows:
    """The text-only rows that could be chosen.

    Attributes
    ----------
    rows
        Pool positions, ascending, int64 [rows].
    included
        Which of them must be chosen, bool [rows].
    """

    rows: NDArray[np.int64]
    included: NDArray[np.bool_]


def choose_text_only(
    given: TextOnlyRows, asked: str, *, budget: Budget, eligible: int, seed: int, pool_rows: int
) -> NDArray[np.int64]:
    """Return the text-only rows that join the choice of a budget, on top of it.

    Parameters
    ----------
    given
        The rows to choose from.
    asked
        `exclude`: only those that must be chosen; `keep`: all; `sample`: of n rows as many as the budget's share of
        them, rounded down, those that must be chosen among them. The share is the percentage asked for, or of a count
        that count over the eligible rows with a score.
    eligible
        Number of rows with a score that could be chosen.
    seed
        Of the draw. A row's lot depends on the seed and its position alone, so that a larger budget takes what a
        smaller one does, and a pool that grew draws the old rows as before.
    pool_rows
        Number of all rows of the pool.

    Returns
    -------
    Int64 [chosen], ascending.
    """
    if asked == "keep":
        return given.rows
    if asked == "exclude":
        return given.rows[given.included]
    wanted = int(given.rows.size * _share(budget, eligible))  # a fraction in whole numbers: rounded down exactly
    lots = np.random.default_rng([seed, _PURPOSE]).random(pool_rows)[given.rows]  # [rows]
    order = np.lexsort((lots, ~given.included))  # those that must be chosen first
    size = max(wanted, int(np.count_nonzero(given.included)))
    return np.sort(given.rows[order[:size]])


def _share(budget: Budget, eligible: int) -> Fraction:
    if budget.percent is not None:
        return Fraction(budget.percent) / 100
    return Fraction(budget.count or 0, eligible)

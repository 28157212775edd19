"""The strategies by name: how scores and vectors become an order of choice, each with a definition one can check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.errors import OptionError, did_you_mean
from scalselect.selection.coverage import choose_coverage
from scalselect.selection.d_optimal import choose_d_optimal
from scalselect.selection.ranking import order_by_score
from scalselect.selection.sampling import joint_leverage, race_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scalselect.selection.admission import Admission
    from scalselect.selection.candidates import Candidates

    Choose = Callable[[Candidates, int, Admission], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to choose.

    Attributes
    ----------
    name
        What the user calls it.
    definition
        One sentence that a chosen set can be checked against.
    needs
        Which coordinates the candidates must have: ``vision``, ``instruction`` or none.
    reads
        Which coordinates it reads where the candidates have them.
    nests
        A smaller budget's rows are among a larger one's, where there are no strata.
    nests_limited
        The same where the rows an image may have are limited.
    choose
        Takes up to n rows through the admission, and returns their places in order of choice, int64 [at most n]:
        fewer only where the admission refuses all others. Rows that the admission knows as taken are not candidates.
    """

    name: str
    definition: str
    needs: frozenset[str]
    reads: frozenset[str]
    nests: bool
    nests_limited: bool
    choose: Choose


def _top_leverage(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    return admission.take_in_order(order_by_score(candidates.scores, candidates.rows), n)


def _leverage_sampling(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    return admission.take_in_order(race_order(candidates.scores, candidates.draws), n)


def _joint_leverage_sampling(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    return admission.take_in_order(race_order(joint_leverage(candidates), candidates.draws), n)


def _half(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    top = _top_leverage(candidates, n - n // 2, admission)
    uniform = np.argsort(candidates.draws, kind="stable").astype(np.int64, copy=False)
    return np.concatenate((top, admission.take_in_order(uniform, n - len(top))))


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            name="top-leverage",
            definition="The n rows of highest leverage score; equal scores in pool order.",
            needs=frozenset(),
            reads=frozenset(),
            nests=True,
            nests_limited=True,
            choose=_top_leverage,
        ),
        Strategy(
            name="leverage-sampling",
            definition=(
                "Drawn one after another without replacement, each next row with probability proportional to its "
                "leverage score among the rows that remain."
            ),
            needs=frozenset(),
            reads=frozenset(),
            nests=True,
            nests_limited=True,
            choose=_leverage_sampling,
        ),
        Strategy(
            name="joint-leverage-sampling",
            definition=(
                "Drawn like leverage-sampling, with probability proportional to the squared norm in the whitened "
                "dominant subspaces of vision and instruction vectors side by side, each divided by its rank."
            ),
            needs=frozenset({"vision", "instruction"}),
            reads=frozenset({"vision", "instruction"}),
            nests=True,
            nests_limited=True,
            choose=_joint_leverage_sampling,
        ),
        Strategy(
            name="half",
            definition="Half of the n rows (rounded up) by top-leverage, the others drawn uniformly from what remains.",
            needs=frozenset(),
            reads=frozenset(),
            nests=True,
            nests_limited=False,  # a row drawn at a small budget may share its image with one on top at a larger
            choose=_half,
        ),
        Strategy(
            name="d-optimal",
            definition=(
                "One row z of the whitened dominant subspace after another: while the chosen rows do not span it, the "
                "one farthest from their span; then the one that adds most to the log-determinant of the sum of z z^T "
                "over the chosen rows. Equal gains in pool order."
            ),
            needs=frozenset({"vision"}),
            reads=frozenset({"vision"}),
            nests=True,
            nests_limited=True,
            choose=choose_d_optimal,
        ),
        Strategy(
            name="coverage",
            definition=(
                "The row nearest to each of n centres of mini-batch k-means in the whitened dominant subspaces, each "
                "divided by the square root of its rank; places that remain go to the rows farthest from their centre."
            ),
            needs=frozenset({"vision"}),
            reads=frozenset({"vision", "instruction"}),
            nests=False,
            nests_limited=False,
            choose=choose_coverage,
        ),
    )
}


def strategy_named(name: str) -> Strategy:
    """Return the strategy of that name.

    Raises
    ------
    OptionError
        If there is none.
    """
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise OptionError(f"unknown strategy: {name!r}{did_you_mean(name, STRATEGIES)}; there are {known}")
    return STRATEGIES[name]

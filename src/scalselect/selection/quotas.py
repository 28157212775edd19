"""How many rows each stratum is to give: exact proportions, rounded by largest remainder."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from scalselect.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Quotas = Literal["proportional", "equal"] | Mapping[str, int | float | Fraction]


_NAMED = 10  # strata named in a message


def weights_of(quotas: Quotas, names: Sequence[str], candidates: Sequence[int]) -> list[Fraction]:
    """Return the weight of every stratum.

    Parameters
    ----------
    quotas
        ``proportional`` to the numbers of candidates, ``equal``, or a share or count for each name. Numbers are read
        as weights: counts that sum to the budget are met exactly. A stratum without a number gets nothing.
    names, candidates
        Of each stratum, its name and its number of candidates.

    Raises
    ------
    OptionError
        If a number is negative or not finite, all are zero, or a name is no stratum's.
    """
    if isinstance(quotas, str):
        if quotas not in ("proportional", "equal"):
            raise OptionError(f"quotas are `proportional`, `equal` or a mapping of names to numbers: {quotas!r}")
        return [Fraction(count if quotas == "proportional" else 1) for count in candidates]
    known = frozenset(names)
    for name, value in quotas.items():
        if name not in known:
            told = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
            near = did_you_mean(name, names)
            raise OptionError(f"the quotas name a stratum that no row belongs to: {name!r}{near}; there are {told}")
        if isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise OptionError(f"the quota of {name!r} must be a number, not negative: {value!r}")
    # A float by its shortest decimal: 0.29 is twenty-nine hundredths.
    weights = [_exact(quotas.get(name, 0)) for name in names]
    if not any(weights):
        raise OptionError("the quotas are all zero, so no row could be chosen")
    return weights


def allot(
    n: int, weights: Sequence[Fraction], capacities: Sequence[int] | None = None, floors: Sequence[int] | None = None
) -> list[int]:
    """Divide `n` places in proportion to weights, no stratum above its capacity or below its floor.

    The exact share of a stratum is ``clip(t * weight, floor, capacity)`` with the one t for which the shares sum to
    `n`: what a stratum cannot give, the others give in proportion. Shares are rounded by largest remainder, equal
    remainders in the order of the strata.

    Parameters
    ----------
    n
        Number of places.
    weights
        Not negative; a stratum of weight zero gets its floor.
    capacities
        The most each stratum can give; without limit if None.
    floors
        The least each stratum gives; zero if None.

    Raises
    ------
    ValueError
        If no division lies within floors and capacities.
    """
    low = list(floors) if floors is not None else [0] * len(weights)
    high = list(capacities) if capacities is not None else [max(n, least) for least in low]
    high = [most if weight else least for weight, least, most in zip(weights, low, high, strict=True)]
    if any(most < least for least, most in zip(low, high, strict=True)) or not sum(low) <= n <= sum(high):
        raise ValueError(f"{n} places cannot be divided between floors {low} and capacities {high}")
    level = _level(n, weights, low, high)
    shares = [
        min(max(level * weight, Fraction(least)), Fraction(most))
        for weight, least, most in zip(weights, low, high, strict=True)
    ]
    rounded = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda stratum: rounded[stratum] - shares[stratum])
    for stratum in by_remainder[: n - sum(rounded)]:
        rounded[stratum] += 1
    return rounded


def _level(n: int, weights: Sequence[Fraction], low: Sequence[int], high: Sequence[int]) -> Fraction:
    """Return the t at which ``sum(clip(t * weight, low, high))`` reaches n."""
    turns = []  # at which t a stratum leaves its floor (1) or reaches its capacity (-1)
    for stratum, weight in enumerate(weights):
        if weight and low[stratum] < high[stratum]:
            turns += [(low[stratum] / weight, 1, stratum), (high[stratum] / weight, -1, stratum)]
    fixed, slope, level = sum(low), Fraction(0), Fraction(0)
    for at, turn, stratum in sorted(turns):
        if fixed + slope * at >= n:
            break
        level = at
        slope += turn * weights[stratum]
        fixed += -low[stratum] if turn == 1 else high[stratum]
    return (n - fixed) / slope if slope else level


def _exact(value: float | Fraction) -> Fraction:
    return Fraction(repr(float(value))) if isinstance(value, float) else Fraction(value)

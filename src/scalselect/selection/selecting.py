"""The choice as a whole: included rows first, then each stratum by the strategy, and what could not be had is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scalselect.errors import BudgetError, OptionError
from scalselect.records import Selection, StratumShare
from scalselect.selection.admission import Admission
from scalselect.selection.quotas import allot, weights_of
from scalselect.selection.strategies import strategy_named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from scalselect.selection.admission import RowImages
    from scalselect.selection.candidates import Candidates
    from scalselect.selection.quotas import Quotas
    from scalselect.selection.strategies import Strategy

_TOLD = 10  # notes about single strata; the others are counted


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Which stratum each candidate belongs to.

    Attributes
    ----------
    codes
        Index into `names`, int64 [candidates].
    names
        Names of the strata, those without a candidate included.
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]


def select_rows(
    candidates: Candidates,
    n: int,
    *,
    strategy: str,
    strata: Strata | None = None,
    quotas: Quotas = "proportional",
    included: NDArray[np.bool_] | None = None,
    images: RowImages | None = None,
    max_per_image: int | None = None,
) -> Selection:
    """Choose `n` candidates by a strategy, within strata and limits.

    Included rows are taken first. They count towards `n`, their stratum's quota and their images' limit, and are
    never refused. Then each stratum, in the order of its names, is filled by the strategy. Where a stratum cannot
    fill its quota, the others get its places in proportion to their weights, and a note says so.

    Parameters
    ----------
    candidates
        The eligible rows.
    n
        Number of rows to choose, at least 1.
    strategy
        Name of a strategy, see `scalselect.selection.strategies.STRATEGIES`.
    strata, quotas
        The candidates' strata and what each is to give, see `scalselect.selection.quotas.weights_of`.
    included
        Rows that must be chosen, bool [candidates].
    images, max_per_image
        The candidates' images and how many chosen rows may show one of them; both or neither.

    Returns
    -------
    The chosen rows; `StratumShare.quota` is what a stratum was to give before its candidates, included rows and
    images were looked at.

    Raises
    ------
    BudgetError
        If fewer than `n` rows can be had, or more than `n` are included.
    OptionError
        If the strategy or a quota is unknown or wrong, or the strategy's vectors are missing.
    ValueError
        If `n` is below 1, or an array does not fit the candidates.
    """
    chosen_by = _usable(strategy, candidates)
    size = len(candidates)
    if n < 1:
        raise ValueError(f"n must be at least 1: {n}")
    for name, values in (("included", included), ("strata", None if strata is None else strata.codes)):
        if values is not None and values.shape != (size,):
            raise ValueError(f"{name} must be one value for each of the {size} candidates: {values.shape}")
    if n > size:
        raise BudgetError(f"the budget asks for {n} rows and only {size} can be chosen", possible=size or None)
    admission = Admission(size, images, max_per_image)
    if included is not None:
        admission.include(np.flatnonzero(included))
        if (count := int(included.sum())) > n:
            raise BudgetError(f"{count} rows are to be included, and the budget is {n} rows", possible=count)
    shares, notes = _fill(_read_by(chosen_by, candidates), n, chosen_by, admission, strata=strata, quotas=quotas)
    if (had := int(admission.taken.sum())) < n:
        limits = " with these quotas" if strata is not None else ""
        limits += f" with at most {max_per_image} rows an image" if max_per_image is not None else ""
        raise BudgetError(f"the budget asks for {n} rows and only {had} can be chosen{limits}", possible=had or None)
    lowest = float(candidates.scores[admission.taken].min())
    return Selection(
        rows=candidates.rows[admission.taken],
        eligible=size,
        lowest_score=lowest,
        ties_at_cut=int(np.count_nonzero(candidates.scores == lowest)),
        refused=candidates.rows[admission.refused],
        strata=shares,
        notes=notes,
    )


def _usable(name: str, candidates: Candidates) -> Strategy:
    strategy = strategy_named(name)
    for vectors in ("vision", "instruction"):
        if vectors in strategy.needs and getattr(candidates, vectors) is None:
            raise OptionError(f"strategy {name} needs {vectors} vectors, and there are none")
    return strategy


def _read_by(strategy: Strategy, candidates: Candidates) -> Candidates:
    """Return the candidates without the vectors that the strategy does not read, so that no stratum copies them."""
    if "vision" in strategy.reads and "instruction" in strategy.reads:
        return candidates
    return replace(
        candidates,
        vision=candidates.vision if "vision" in strategy.reads else None,
        instruction=candidates.instruction if "instruction" in strategy.reads else None,
    )


def _fill(
    candidates: Candidates,
    n: int,
    strategy: Strategy,
    admission: Admission,
    *,
    strata: Strata | None,
    quotas: Quotas,
) -> tuple[dict[str, StratumShare], tuple[str, ...]]:
    """Take rows until there are `n` or none can be had; return each stratum's share, and what should be told."""
    if strata is None:
        strategy.choose(candidates, n - int(admission.taken.sum()), admission)
        return {}, ()
    size = len(strata.names)
    capacities = np.bincount(strata.codes, minlength=size).tolist()  # what a stratum may give, as far as is known
    weights = weights_of(quotas, strata.names, capacities)
    quota = allot(n, weights)
    floors = np.bincount(strata.codes[admission.taken], minlength=size).tolist()
    chosen, able = list(floors), list(capacities)
    members = _members(strata.codes, size)
    while True:
        wanted = _next_wanted(n, weights, able, chosen)
        if wanted == chosen:
            break
        for stratum in range(size):
            more = wanted[stratum] - chosen[stratum]
            if more == 0:
                continue
            part = members[stratum]
            taken = strategy.choose(candidates.take(part), more, admission.within(part))
            chosen[stratum] += len(taken)
            if len(taken) < more:
                able[stratum] = chosen[stratum]
    shares = {
        name: StratumShare(candidates=had, quota=due, chosen=given)
        for name, had, due, given in zip(strata.names, capacities, quota, chosen, strict=True)
    }
    return shares, (*_note_of_weights(quotas, n), *_notes_of_none(shares, quotas), *_notes(shares, floors, able))


def _members(codes: NDArray[np.int64], strata: int) -> list[NDArray[np.int64]]:
    """Return the ascending places of each stratum."""
    by_stratum = np.argsort(codes, kind="stable").astype(np.int64, copy=False)
    return np.split(by_stratum, np.searchsorted(codes[by_stratum], np.arange(1, strata)))


def _next_wanted(n: int, weights: Sequence[Fraction], able: list[int], chosen: list[int]) -> list[int]:
    """Return how many rows each stratum should have given after the next round."""
    possible = sum(most if weight else had for weight, most, had in zip(weights, able, chosen, strict=True))
    return allot(min(n, possible), weights, able, chosen)


def _note_of_weights(quotas: Quotas, n: int) -> tuple[str, ...]:
    if isinstance(quotas, str) or not all(isinstance(value, int) for value in quotas.values()):
        return ()
    total = sum(quotas.values())
    if total in (n, 100):
        return ()
    return (f"the quotas sum to {total} and the budget is {n} rows, so they were taken as proportions",)


def _notes_of_none(shares: dict[str, StratumShare], quotas: Quotas) -> list[str]:
    """Return a sentence on the strata that have candidates and no quota: nothing dropped goes untold."""
    none = [name for name, share in shares.items() if share.quota == 0 and share.candidates > 0]
    if not none:
        return []
    told = ", ".join(repr(name) for name in none[:3]) + (", ..." if len(none) > 3 else "")  # noqa: PLR2004 - as many are told
    unnamed = not isinstance(quotas, str) and all(name not in quotas for name in none)
    why = "the quotas do not name them" if unnamed else "their share is less than a row, or others come first"
    return [f"{len(none)} of {len(shares)} strata have a quota of 0 rows, as {why}: {told}"]


def _notes(shares: dict[str, StratumShare], floors: list[int], able: list[int]) -> tuple[str, ...]:
    notes = []
    for (name, share), floor, most in zip(shares.items(), floors, able, strict=True):
        if share.chosen == share.quota:
            continue
        if share.chosen > share.quota:
            why = "so many of its rows are included" if share.chosen == floor else "it makes up for others"
        elif share.chosen < most:
            why = "included rows of others have its places"
        else:
            why = "it has no more" if most == share.candidates else "its other rows show images that have their share"
            why += ", others give the rest"
        notes.append(f"stratum {name!r} gives {share.chosen} rows where its quota is {share.quota}: {why}")
    if len(notes) > _TOLD:
        notes[_TOLD:] = [f"{len(notes) - _TOLD} more strata give another number of rows than their quota"]
    return tuple(notes)

"""Which rows may still be taken: each row once, and no image more often than is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RowImages:
    """The images of every candidate: those of place p are ``codes[offsets[p] : offsets[p + 1]]``.

    Attributes
    ----------
    offsets
        Int64 [candidates + 1], ascending from 0.
    codes
        A whole number from 0 for each image, equal for equal images, int64 [images of all candidates].
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Limit:
    """How often each image was taken, beside how often it may be."""

    most: int
    offsets: NDArray[np.int64]  # [candidates + 1]
    codes: NDArray[np.int64]  # distinct within a row
    single: NDArray[np.int64] | None  # [candidates] the one code of a row or -1; None where a row has several
    times: NDArray[np.int64] = field(init=False)  # [images]

    def __post_init__(self) -> None:
        self.times = np.zeros(int(self.codes.max(initial=0)) + 1, dtype=np.int64)

    def of(self, place: int) -> NDArray[np.int64]:
        return self.codes[self.offsets[place] : self.offsets[place + 1]]


class Admission:
    """Says whether a row may be taken, and is told of every row that is.

    A row with several images counts against each of them, once. Rows without an image are never refused.
    Views on a part of the candidates (`within`) share what was taken.

    Parameters
    ----------
    candidates
        Number of candidates.
    images, max_per_image
        The candidates' images and how many chosen rows may show one of them; both or neither.

    Raises
    ------
    ValueError
        If only one of the two is given, the limit is below 1, or the offsets do not fit.
    """

    def __init__(self, candidates: int, images: RowImages | None = None, max_per_image: int | None = None) -> None:
        if (images is None) != (max_per_image is None):
            raise ValueError("images and max_per_image must be given together")
        self._taken = np.zeros(candidates, dtype=np.bool_)
        self._refused = np.zeros(candidates, dtype=np.bool_)
        self._limit = None if images is None else _limit(candidates, images, max_per_image or 0)
        self._places: NDArray[np.int64] | None = None

    def within(self, places: NDArray[np.int64]) -> Admission:
        """Return the same admission for the candidates at `places` alone, int64 [part], counted from 0 there."""
        view = Admission(0)
        view._taken, view._refused, view._limit = self._taken, self._refused, self._limit
        view._places = places if self._places is None else self._places[places]
        return view

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which candidates were taken so far, bool [candidates]."""
        return self._taken if self._places is None else self._taken[self._places]

    @property
    def refused(self) -> NDArray[np.bool_]:
        """Which candidates were offered and refused so far, bool [candidates]."""
        return self._refused if self._places is None else self._refused[self._places]

    def include(self, places: NDArray[np.int64]) -> None:
        """Take rows whatever their images, int64 [included]; they count against their images like others."""
        rows = self._global(places)
        rows = rows[~self._taken[rows]]
        self._taken[rows] = True
        if self._limit is not None:
            for row in rows.tolist():
                self._limit.times[self._limit.of(row)] += 1

    def offer(self, place: int) -> bool:
        """Take the row at `place` if it may be taken; say whether it was. Offer no row that is taken already."""
        row = place if self._places is None else int(self._places[place])
        if self._limit is not None:
            images = self._limit.of(row)
            if (self._limit.times[images] >= self._limit.most).any():
                self._refused[row] = True
                return False
            self._limit.times[images] += 1
        self._taken[row] = True
        return True

    def take_in_order(self, order: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """Take the first `n` rows of `order` that may be taken, fewer where there are no more.

        Parameters
        ----------
        order
            Distinct places, best first, int64 [offered]. Rows taken before are passed over.
        n
            Number of rows wanted.

        Returns
        -------
        Int64 [at most n], the places taken, in that order.
        """
        order = order[~self._taken[self._global(order)]]
        if self._limit is None:
            taken = order[:n]
            self._taken[self._global(taken)] = True
            return taken
        if self._limit.single is None:
            return self._take_one_by_one(order, n)
        rows = self._global(order)
        codes = self._limit.single[rows]  # [offered]
        allowed = (codes < 0) | (_earlier_equals(codes) + self._limit.times[codes] < self._limit.most)
        end = np.searchsorted(np.cumsum(allowed), n)  # offers up to and with the n-th that is allowed
        allowed, rows, codes = allowed[: end + 1], rows[: end + 1], codes[: end + 1]
        if n == 0:
            allowed, rows, codes = allowed[:0], rows[:0], codes[:0]
        self._taken[rows[allowed]] = True
        self._refused[rows[~allowed]] = True
        shown = codes[allowed & (codes >= 0)]
        self._limit.times += np.bincount(shown, minlength=len(self._limit.times))
        return order[: len(allowed)][allowed]

    def _take_one_by_one(self, order: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        taken: list[int] = []
        for place in order.tolist():
            if len(taken) == n:
                break
            if self.offer(place):
                taken.append(place)
        return np.array(taken, dtype=np.int64)

    def _global(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return places if self._places is None else self._places[places]


def _limit(candidates: int, images: RowImages, most: int) -> _Limit:
    if most < 1:
        raise ValueError(f"max_per_image must be at least 1: {most}")
    if images.offsets.shape != (candidates + 1,) or images.offsets[-1] != len(images.codes):
        raise ValueError("the images' offsets do not fit the candidates and the codes")
    # A row that shows one image twice counts once.
    owner = np.repeat(np.arange(candidates, dtype=np.int64), np.diff(images.offsets))  # [images]
    by_code = np.lexsort((images.codes, owner))
    owner, codes = owner[by_code], images.codes[by_code].astype(np.int64, copy=False)
    fresh = np.ones(len(codes), dtype=np.bool_)
    fresh[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
    owner, codes = owner[fresh], codes[fresh]
    offsets = np.searchsorted(owner, np.arange(candidates + 1, dtype=np.int64)).astype(np.int64, copy=False)
    single = None
    if (np.diff(offsets) <= 1).all():
        single = np.full(candidates, -1, dtype=np.int64)
        single[owner] = codes
    return _Limit(most=most, offsets=offsets, codes=codes, single=single)


def _earlier_equals(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of the codes before each one equal it, int64, parallel to `codes`."""
    by_code = np.argsort(codes, kind="stable")
    ordered = codes[by_code]
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(ordered)), np.bool_), ordered[1:] != ordered[:-1])))
    first = np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    earlier = np.empty(len(codes), dtype=np.int64)
    earlier[by_code] = np.arange(len(ordered)) - first
    return earlier

"""The strategy `d-optimal`: the row that adds most to the log-determinant, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scalselect.selection.equal_vectors import group_equal_rows
from scalselect.selection.log_determinant import LogDeterminantGains

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.selection.admission import Admission
    from scalselect.selection.candidates import Candidates

_TIE = 1e-10  # gains this close, relatively, are equal: rounding must not decide between mirrored rows
_FRONT = 4096  # vectors, at least, whose gains are kept up to date from choice to choice
_LOOK = 4  # a look at all vectors costs about as much as so many updates of as large a front


def choose_d_optimal(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    """Take rows one after another, each the one that adds most to ``log det`` of the sum of outer products.

    Exactly the greedy choice on ``candidates.vision`` (see `LogDeterminantGains` for the limit that is meant), equal
    gains in pool order. Rows taken before count as chosen. It is lazy, not approximate: gains only fall, so while the
    best of the few thousand rows that led at the last look at all rows is above the best of the others *then*, no
    other row can have passed it. Equal vectors are looked at once.

    Returns
    -------
    Int64 [at most n], places in order of choice.

    Raises
    ------
    ValueError
        If the candidates have no vision coordinates.
    """
    if candidates.vision is None:
        raise ValueError("d-optimal needs vision coordinates")
    open_places = np.flatnonzero(~admission.taken)
    if n >= len(open_places):
        return admission.take_in_order(open_places, n)
    search = _Search(candidates.vision, open_places, np.flatnonzero(admission.taken), admission)
    chosen: list[int] = []
    while len(chosen) < n and (place := search.next()) >= 0:
        chosen.append(place)
    return np.array(chosen, dtype=np.int64)


class _Search:
    """The distinct vectors, the rows that have each, and the front of those that can be next.

    Parameters
    ----------
    vision
        Float32 [candidates, k].
    places, taken
        Ascending places to choose from, and those chosen beforehand.
    """

    def __init__(
        self,
        vision: NDArray[np.float32],
        places: NDArray[np.int64],
        taken: NDArray[np.int64],
        admission: Admission,
    ) -> None:
        open_vectors = vision if len(places) == len(vision) else vision[places]
        group, first = group_equal_rows(open_vectors)
        self._vectors = open_vectors if len(first) == len(open_vectors) else open_vectors[first]  # [distinct, k]
        self._members = places[np.argsort(group, kind="stable")]  # [places] by vector, then in pool order
        ends = np.cumsum(np.bincount(group, minlength=len(first)))
        self._ends, self._next = ends, np.concatenate((np.zeros(1, np.int64), ends[:-1]))  # [distinct] into members
        self._admission = admission
        self._gains = LogDeterminantGains(self._vectors, vision[taken])
        self._gone = np.zeros(len(first), dtype=np.bool_)  # [distinct] no row left
        self._size, self._updates = _FRONT, 0
        self._look()

    def next(self) -> int:
        """Take the best row that may be taken; return its place, or -1 if there is none."""
        while True:
            if self._front_is_over():
                self._gains.refresh()
                everything = np.where(self._gone, -np.inf, self._gains.values)
                if everything.max() == -np.inf:
                    return -1
                vector = self._best(everything, np.arange(len(everything)))
                self._balance()
                self._look()
            else:
                vector = self._best(self._values, self._front)
            place = self._offer_members(vector)
            if place >= 0:
                self._count(vector)
                return place

    def _balance(self) -> None:
        """Make the front larger where looks at all vectors cost more than the updates between them, and back."""
        updated, all_vectors = self._updates * self._size, _LOOK * len(self._vectors)
        if updated < all_vectors:
            self._size = min(2 * self._size, max(_FRONT, len(self._vectors) // 4))
        elif updated > 4 * all_vectors:
            self._size = max(self._size // 2, _FRONT)
        self._updates = 0

    def _look(self) -> None:
        """Make the best vectors of the last refresh the front; remember the best of all others."""
        values = np.where(self._gone, -np.inf, self._gains.values)
        size = min(self._size, len(values))
        order = np.argpartition(-values, size - 1)
        self._front = np.sort(order[:size])
        self._others = float(values[order[size:]].max(initial=-np.inf))
        self._coordinates = self._vectors[self._front].astype(np.float64)  # [front, k]
        self._values = values[self._front]  # [front]

    def _front_is_over(self) -> bool:
        """Say whether a row outside the front may be next, or the values inside cannot be updated further."""
        best = float(self._values.max())
        return best * (1.0 - _TIE) <= self._others or best == -np.inf or self._gains.is_over(best)

    def _best(self, values: NDArray[np.float64], vectors: NDArray[np.int64]) -> int:
        """Return the vector of largest value; of equal ones that whose next row comes first."""
        equal = vectors[values >= values.max() * (1.0 - _TIE)]
        return int(equal[np.argmin(self._members[self._next[equal]])])

    def _offer_members(self, vector: int) -> int:
        """Take the first row of a vector that may be taken; return its place, or -1 if there is none."""
        place = -1
        while place < 0 and self._next[vector] < self._ends[vector]:
            row = int(self._members[self._next[vector]])
            self._next[vector] += 1
            if self._admission.offer(row):
                place = row
        if self._next[vector] == self._ends[vector]:
            self._gone[vector] = True
            self._values[self._front == vector] = -np.inf
        return place

    def _count(self, vector: int) -> None:
        direction = self._gains.choose(self._vectors[vector].astype(np.float64))
        self._updates += 1
        along = self._coordinates @ direction  # [front]
        self._values -= along * along
        np.maximum(self._values, 0.0, out=self._values, where=np.isfinite(self._values))

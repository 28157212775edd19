"""Pairs of rows that may be near to one another, and the judge who looks at the vectors themselves where he must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.selection.sketches import SLACK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    VectorsAt = Callable[[NDArray[np.int64]], NDArray[np.float32]]

_ROUNDING = 1e-6  # of a cosine: vectors are float32
_TOGETHER = 1024  # pairs whose vectors are held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of ranks, the better one second.

    Attributes
    ----------
    later, earlier
        Ranks, int64 [pairs].
    most
        Upper bounds of the cosines, float32 [pairs].
    """

    later: NDArray[np.int64]
    earlier: NDArray[np.int64]
    most: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.later)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """Return some of the pairs, by a mask or by their places."""
        return Pairs(self.later[chosen], self.earlier[chosen], self.most[chosen])

    @classmethod
    def together(cls, parts: Sequence[Pairs]) -> Pairs:
        """Return all pairs of several parts."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        fields = zip(*((part.later, part.earlier, part.most) for part in parts), strict=True)
        return cls(*map(np.concatenate, fields))


class PairJudge:
    """Says of pairs of ranks whether their cosine reaches the bound.

    Parameters
    ----------
    places
        Place of each rank, int64 [ranked].
    left_out
        Length of what a rank's sketch leaves out, float32 [ranked].
    bound
        Least cosine.
    vectors_at
        Reads centred vectors at ascending places, float32 [few, hidden].
    """

    def __init__(
        self, places: NDArray[np.int64], left_out: NDArray[np.float32], bound: float, vectors_at: VectorsAt
    ) -> None:
        self._places, self._left_out, self._bound, self._vectors_at = places, left_out, bound, vectors_at

    def near(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Return whether each pair's cosine reaches the bound, bool [pairs]."""
        least = pairs.most - 2.0 * self._left_out[pairs.later] * self._left_out[pairs.earlier]
        near: NDArray[np.bool_] = least >= self._bound + SLACK
        unsure = np.flatnonzero(~near)
        unsure = unsure[np.lexsort((pairs.later[unsure], pairs.earlier[unsure]))]  # neighbours share vectors
        for start in range(0, len(unsure), _TOGETHER):
            some = unsure[start : start + _TOGETHER]
            left, right = self._vectors(pairs.later[some], pairs.earlier[some])
            products = np.einsum("ij,ij->i", left, right, dtype=np.float64)
            lengths = np.einsum("ij,ij->i", left, left, dtype=np.float64)
            lengths *= np.einsum("ij,ij->i", right, right, dtype=np.float64)
            near[some] = products >= (self._bound - _ROUNDING) * np.sqrt(lengths)
        return near

    def equal(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each pair of ranks has the same vector, bit for bit, bool [pairs]."""
        equal = np.empty(len(left), dtype=np.bool_)
        for start in range(0, len(left), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            ours, theirs = self._vectors(left[some], right[some])
            equal[some] = (ours == theirs).all(axis=1)
        return equal

    def _vectors(
        self, left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        places, which = np.unique(self._places[np.concatenate((left, right))], return_inverse=True)
        vectors = self._vectors_at(places)
        return vectors[which[: len(left)]], vectors[which[len(left) :]]

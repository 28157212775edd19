"""Rows that are near-copies of a better row: exact, without a matrix of all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.selection.equal_vectors import group_equal_rows
from scalselect.selection.near_pairs import PairJudge, Pairs
from scalselect.selection.sketches import Blocks, pairs_that_may_reach, sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.selection.near_pairs import VectorsAt

_OPEN, _KEPT, _COPY = 0, 1, 2
_CHUNK, _LARGEST_CHUNK = 512, 65_536  # rows looked at together
_PAIRS = 2**21  # pairs held at a time


@dataclass(frozen=True, slots=True, eq=False)
class NearCopies:
    """Which rows are near-copies.

    Attributes
    ----------
    copy_of
        Place of the kept row each row is a near-copy of, the first in order; -1 where the row is kept. Int64 [rows].
    same_images
        Number of kept rows that are only so because the kept rows they are near to show the same images.
    """

    copy_of: NDArray[np.int64]
    same_images: int


def find_near_copies(
    coordinates: NDArray[np.float32],
    norms: NDArray[np.float64],
    order: NDArray[np.int64],
    bound: float,
    vectors_at: VectorsAt,
    *,
    images: NDArray[np.int64] | None = None,
) -> NearCopies:
    """Go through rows from the best to the last and bar each whose cosine with a kept row reaches `bound`.

    Coordinates along the dominant directions decide most pairs (`scalselect.selection.sketches`); the others are
    looked at in full. A cosine may fall short of the bound by 1e-6, for rounding.

    Parameters
    ----------
    coordinates
        Of the centred vectors along orthonormal directions, not whitened, float32 [rows, directions].
    norms
        Lengths of the centred vectors, [rows]. A row of length zero is like no other.
    order
        Every place once, best first, int64 [rows].
    bound
        Least cosine of near-copies, above 0 and at most 1.
    vectors_at
        Reads centred vectors of a few ascending places: int64 [few] to float32 [few, hidden].
    images
        A code for each row, equal for rows that show the same images, int64 [rows]. Rows with equal codes do not
        bar one another, they are only counted. None: all rows bar one another.

    Raises
    ------
    ValueError
        If the bound is out of range or the arrays do not fit.
    """
    rows = len(coordinates)
    if not 0.0 < bound <= 1.0:
        raise ValueError(f"the bound of a cosine must lie above 0 and not above 1: {bound}")
    if any(array is not None and array.shape != (rows,) for array in (norms, order, images)):
        raise ValueError(f"norms, order and images must be one value for each of the {rows} rows")
    places = order[norms[order] > 0]  # [ranked] from here on a row is its rank, so that a smaller one is better
    points = sketch(coordinates[places], norms[places].astype(np.float64))
    judge = PairJudge(places, points[:, -1], bound, vectors_at)
    search = _Search(points, bound, judge, None if images is None else images[places])
    twin_of = _twins(coordinates, norms, places, images, judge)
    search.run(np.flatnonzero(twin_of < 0))
    leader, spared = search.leader, search.spared
    twins = np.flatnonzero(twin_of >= 0)
    first = twin_of[twins]
    # A twin has the neighbours of its first, and so its fate; beyond that, only the first itself can bar it.
    leader[twins] = np.where(leader[first] >= 0, leader[first], first if images is None else -1)
    spared[twins] = leader[twins] < 0
    copy_of = np.full(rows, -1, dtype=np.int64)
    copy_of[places] = np.where(leader >= 0, places[leader], -1)
    return NearCopies(copy_of=copy_of, same_images=int(spared.sum()))


def _twins(
    coordinates: NDArray[np.float32],
    norms: NDArray[np.float64],
    places: NDArray[np.int64],
    images: NDArray[np.int64] | None,
    judge: PairJudge,
) -> NDArray[np.int64]:
    """Return for each rank the first rank of the very same vector and images, or -1, int64 [ranked].

    Without this, thousands of equal rows that may not bar one another would all be compared with one another.
    """
    lengths = norms[places].astype(np.float64).view(np.float32).reshape(-1, 2)
    codes = np.zeros((len(places), 2), np.float32)
    if images is not None:
        codes = images[places].astype(np.int64).view(np.float32).reshape(-1, 2)
    group, first = group_equal_rows(np.concatenate((coordinates[places], lengths, codes), axis=1))
    twin_of = np.where(first[group] == np.arange(len(places)), -1, first[group])
    later = np.flatnonzero(twin_of >= 0)
    later = later[np.argsort(twin_of[later], kind="stable")]
    unlike = later[~judge.equal(later, twin_of[later])]
    twin_of[unlike] = -1
    return twin_of


class _Search:
    """The leader rule over ranks, in chunks: first against the rows kept before, then within the chunk.

    Attributes
    ----------
    leader
        Of each rank, the rank of the kept row that bars it, or -1.
    spared
        Of each rank, whether rows of the same images, and only these, would have barred it.
    """

    def __init__(
        self, points: NDArray[np.float32], bound: float, judge: PairJudge, images: NDArray[np.int64] | None
    ) -> None:
        self._points, self._bound, self._judge, self._images = points, bound, judge, images
        self._state = np.full(len(points), _OPEN, dtype=np.int8)
        self._kept: list[Blocks] = []
        self.leader = np.full(len(points), -1, dtype=np.int64)
        self.spared = np.zeros(len(points), dtype=np.bool_)

    def run(self, ranks: NDArray[np.int64]) -> None:
        """Settle some ranks, ascending, int64 [rows]."""
        start, size = 0, _CHUNK
        while start < len(ranks):
            chunk = ranks[start : start + size]
            chunk = chunk[self._state[chunk] == _OPEN]
            alike = self._bar_by_kept(chunk)
            chunk = chunk[self._state[chunk] == _OPEN]
            inside, pairs = self._pairs_within(chunk)
            if len(inside) < len(chunk):  # a crowd: once its first rows are settled they bar many of the others
                start, size = int(np.searchsorted(ranks, chunk[len(inside)])), max(size // 2, _CHUNK)
            else:
                start, size = start + size, min(2 * size, _LARGEST_CHUNK)
            barring, alike_inside = self._apart(pairs)
            self._settle(inside, barring)
            self._spare(Pairs.together([alike, alike_inside]))
            self._keep(inside[self._state[inside] == _KEPT])
        self.spared[self._state == _COPY] = False

    def _bar_by_kept(self, chunk: NDArray[np.int64]) -> Pairs:
        """Bar the ranks that are near to one kept before; return the pairs of equal images among the others."""
        ours = Blocks.of(chunk, self._points[chunk])
        barring: list[Pairs] = []
        alike: list[Pairs] = []
        held = 0
        for theirs in self._kept:
            for found in pairs_that_may_reach(self._bound, ours, theirs):
                pairs = Pairs(*found)
                known = self.leader[pairs.later]
                bars, is_alike = self._apart(pairs.where((known < 0) | (pairs.earlier < known)))
                barring.append(bars)
                alike.append(is_alike)
                held += len(bars) + len(is_alike)
                if held > _PAIRS:
                    self._bar(Pairs.together(barring))
                    barring, alike = [], [self._undecided(Pairs.together(alike))]
                    held = len(alike[0])
        self._bar(Pairs.together(barring))
        self._state[chunk[self.leader[chunk] >= 0]] = _COPY
        return self._undecided(Pairs.together(alike))

    def _pairs_within(self, chunk: NDArray[np.int64]) -> tuple[NDArray[np.int64], Pairs]:
        """Return the first ranks of a chunk, so many that their pairs can be held, and these pairs."""
        ours = Blocks.of(chunk, self._points[chunk])
        parts: list[Pairs] = []
        held = 0
        for found in pairs_that_may_reach(self._bound, ours, ours):
            pairs = Pairs(*found)
            parts.append(pairs.where(pairs.earlier < pairs.later))
            held += len(parts[-1])
            if held > _PAIRS:
                return self._pairs_within(chunk[: len(chunk) // 2])
        return chunk, Pairs.together(parts)

    def _apart(self, pairs: Pairs) -> tuple[Pairs, Pairs]:
        """Return the pairs that bar, and those that do not because both show the same images."""
        if self._images is None:
            return pairs, Pairs.together([])
        alike = self._images[pairs.later] == self._images[pairs.earlier]
        return pairs.where(~alike), pairs.where(alike)

    def _bar(self, pairs: Pairs) -> None:
        """Note the first kept rank that is near to each; what was noted before may be a later one."""
        rows, first = self._first_near(pairs)
        known = self.leader[rows]
        better = (first >= 0) & ((known < 0) | (first < known))
        self.leader[rows[better]] = first[better]

    def _undecided(self, alike: Pairs) -> Pairs:
        """Return the pairs of equal images that still matter, fewer than can be held."""
        alike = alike.where((self.leader[alike.later] < 0) & ~self.spared[alike.later])
        if len(alike) > _PAIRS // 2:
            rows, first = self._first_near(alike)
            self.spared[rows[first >= 0]] = True
            return Pairs.together([])
        return alike

    def _settle(self, ranks: NDArray[np.int64], barring: Pairs) -> None:
        """Decide ranks that no rank kept before bars, each once all that are better are decided."""
        alone = np.ones(len(ranks), dtype=np.bool_)
        alone[np.searchsorted(ranks, barring.later)] = False
        self._state[ranks[alone]] = _KEPT
        self._first_near(barring, settle=True)

    def _spare(self, alike: Pairs) -> None:
        """Mark the kept ranks that are near to a kept one of the same images."""
        rows, first = self._first_near(alike.where(self._state[alike.later] == _KEPT))
        self.spared[rows[first >= 0]] = True

    def _keep(self, ranks: NDArray[np.int64]) -> None:
        """Put ranks among the kept; like sizes are merged, so that there are few and compact sets of blocks."""
        while self._kept and len(self._kept[-1].rows) <= 2 * len(ranks):
            ranks = np.concatenate((self._kept.pop().rows, ranks))
        if len(ranks):
            self._kept.append(Blocks.of(ranks, self._points[ranks]))

    def _first_near(self, pairs: Pairs, *, settle: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the later ranks, each once, and for each the first kept rank that is near to it, or -1.

        Each later rank walks along its pairs, all of them in step, and looks at no vector beyond the first that is
        near. With `settle`, a rank that comes to its end is kept, and who meets one that is still on its way waits.
        """
        pairs = pairs.where(np.lexsort((pairs.earlier, pairs.later)))
        rows, start = np.unique(pairs.later, return_index=True)
        end = np.append(start[1:], len(pairs))
        first = np.full(len(rows), -1, dtype=np.int64)
        walking, at = np.arange(len(rows)), start.copy()
        while len(walking):
            met = self._state[pairs.earlier[at[walking]]]
            near = np.zeros(len(walking), dtype=np.bool_)
            near[met == _KEPT] = self._judge.near(pairs.where(at[walking[met == _KEPT]]))
            first[walking[near]] = pairs.earlier[at[walking[near]]]
            at[walking[~near & (met != _OPEN)]] += 1
            ended = at[walking] == end[walking]
            if settle:
                self._state[rows[walking[near]]] = _COPY
                self._state[rows[walking[ended]]] = _KEPT
                self.leader[rows[walking[near]]] = first[walking[near]]
            walking = walking[~near & ~ended]
        return rows, first

"""Several pools one after the other, each with its rows at fixed positions of the whole."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from scalselect.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool
    from scalselect.records import ImageReference, RowIdentity, UnusableRecord


class JoinedPool:
    """Pools in a row. Picklable, like a pool; every position is one of the whole.

    Parameters
    ----------
    parts
        The pools, in order; their sources must differ.
    first_row
        Position of the first row of the first of them: larger than 0 where those before are left out.

    Raises
    ------
    ValueError
        There are no parts, or two have the same source.
    """

    def __init__(self, parts: Sequence[Pool], *, first_row: int = 0) -> None:
        self.parts = tuple(parts)
        sources = [part.source for part in self.parts]
        if not sources or len(set(sources)) < len(sources):
            raise ValueError(f"a joined pool needs parts whose sources differ: {sources}")
        self._bounds = list(accumulate(map(len, self.parts), initial=first_row))  # [parts + 1]

    def __len__(self) -> int:
        return self._bounds[-1] - self._bounds[0]

    @property
    def rows(self) -> range:
        """Positions of all rows."""
        return range(self._bounds[0], self._bounds[-1])

    def rows_of(self, part: int) -> range:
        """Return the positions of the rows of a part."""
        return range(self._bounds[part], self._bounds[part + 1])

    def part_of(self, row: int) -> int:
        """Return the number of the part that a row lies in. Raises IndexError outside the pool."""
        if row not in self.rows:
            raise IndexError(f"row {row} does not lie in rows {self._bounds[0]} to {self._bounds[-1] - 1}")
        return bisect_right(self._bounds, row) - 1

    def source_of(self, row: int) -> str:
        """Return the name of the data set that a row comes from. Raises IndexError outside the pool."""
        return self.parts[self.part_of(row)].source

    def read(self, start: int, stop: int) -> Iterator[Sample | UnusableRecord]:
        """Return rows `start` to `stop` (excluded) in order, one item for each.

        Raises
        ------
        ValueError
            The range does not lie inside the pool.
        DataChangedError
            While reading: a data file was changed or removed.
        """
        if not self._bounds[0] <= start <= stop <= self._bounds[-1]:
            raise ValueError(f"rows {start} to {stop} do not lie in rows {self._bounds[0]} to {self._bounds[-1]}")
        return self.samples_at(range(start, stop))

    def samples_at(self, rows: Iterable[int]) -> Iterator[Sample | UnusableRecord]:
        """Return the given rows, one item for each, in the order given.

        Raises
        ------
        IndexError
            While reading: a row lies outside the pool.
        DataChangedError
            While reading: a data file was changed or removed.
        """
        return (self._sample(int(row)) for row in rows)

    def in_image_order(self) -> NDArray[np.int64]:
        """Return all rows, part by part, those of a part as `Pool.in_image_order` puts them, int64 [rows]."""
        return np.concatenate(
            [part.in_image_order() + begin for part, begin in zip(self.parts, self._bounds, strict=False)]
        )

    def raw(self, row: int) -> bytes:
        """Return the record of a row as the bytes it was written with. Raises IndexError outside the pool."""
        part = self.part_of(row)
        return self.parts[part].raw(row - self._bounds[part])

    def embedded_image(self, image: ImageReference) -> bytes:
        """Return the bytes of an image that lies in the data themselves; see `Pool.embedded_image`."""
        if image.embedded is None:
            raise ValueError(f"no embedded image: {image}")
        row, number = image.embedded
        part = self.part_of(row)
        return self.parts[part].embedded_image(replace(image, embedded=(row - self._bounds[part], number)))

    def fingerprint(self) -> list[dict[str, str | int]]:
        """Return the fingerprint of each part; see `Pool.fingerprint`."""
        return [part.fingerprint() for part in self.parts]

    def check_unchanged(self) -> None:
        """Raise DataChangedError where a data file is no longer the one that was opened."""
        for part in self.parts:
            part.check_unchanged()

    def identity(self, row: int) -> RowIdentity:
        """Return which row this is, with its id and source. Raises IndexError outside the pool."""
        return self._sample(row).identity

    def _sample(self, row: int) -> Sample | UnusableRecord:
        part = self.part_of(row)
        sample = next(self.parts[part].samples_at([row - self._bounds[part]]))
        identity = replace(sample.identity, row=row)
        if not isinstance(sample, Sample):
            return replace(sample, identity=identity)
        images = tuple(
            image if image.embedded is None else replace(image, embedded=(row, image.embedded[1]))
            for image in sample.images
        )
        return replace(sample, identity=identity, images=images)

"""Some samples of a tar written as a tar: their members with headers and padding, copied and not made anew."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scalselect.dataset.data_files import DataFile
    from scalselect.dataset.tar_index import TarIndex

_PIECE = 1 << 23  # bytes copied at once


def write_samples(file: DataFile, index: TarIndex, samples: Sequence[int], path: Path) -> None:
    """Write samples of a tar to another one, which is published whole.

    Members that belong to none of them stay behind; headers that hold for all members behind them come along.

    Parameters
    ----------
    file, index
        The tar that is read.
    samples
        Which samples, ascending; may be empty.
    path
        The tar that is written; its folder exists.

    Raises
    ------
    DataChangedError
        The tar that is read was changed.
    OSError
        As the file system raises it.
    """
    with publish_stream(path) as stream:
        length = 0
        for start, stop in _joined(_ranges(index, samples)):
            for position in range(start, stop, _PIECE):
                stream.write(file.read(position, min(position + _PIECE, stop)))
            length += stop - start
        ending = 2 * tarfile.BLOCKSIZE  # two empty blocks are the end, and the whole is a number of records
        stream.write(bytes(ending + -(length + ending) % tarfile.RECORDSIZE))


def _ranges(index: TarIndex, samples: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes to copy, ascending."""
    shared = list(reversed(index.shared_headers))
    for sample in samples:
        for member in index.members_of(sample):
            while shared and shared[-1][0] < index.begins[member]:
                yield shared.pop()
            yield int(index.begins[member]), int(index.stops[member])


def _joined(ranges: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the same ranges, those that touch as one."""
    start = end = 0
    for begin, stop in ranges:
        if begin != end:
            if end > start:
                yield start, end
            start = begin
        end = stop
    if end > start:
        yield start, end

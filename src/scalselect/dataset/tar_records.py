"""The records of WebDataset tars: the JSON member of every sample, its image members beside it, read in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.dataset.data_files import DataFile
from scalselect.dataset.table_records import TableRecords
from scalselect.dataset.tar_index import index_tar
from scalselect.dataset.tar_sample import json_member, record_of_sample
from scalselect.dataset.tar_writing import write_samples
from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEPT_OPEN = 64  # with more tars than these, each is opened for every read


def open_tars(paths: Sequence[Path]) -> TableRecords:
    """Return the samples of one or several tars, in the order given. Raises DatasetError."""
    title = "a WebDataset tar" if len(paths) == 1 else f"{len(paths)} WebDataset tars"
    tars = [TarSamples(path, kept_open=len(paths) <= _KEPT_OPEN) for path in paths]
    return TableRecords(tars, container="tar", title=title, ending=".tar")


class TarSamples:
    """The samples of one tar, each a row. Picklable; nobody needs a tar object to read them.

    A sample that cannot be used whole is a row all the same, and reading it says why: see `record_of_sample` and
    `TarIndex`.

    Parameters
    ----------
    path
        The tar.
    kept_open
        Whether the file stays open between reads.

    Raises
    ------
    DatasetError
        The file is missing, unreadable, damaged, or no tar.
    """

    def __init__(self, path: Path, *, kept_open: bool = True) -> None:
        self.file = DataFile(path)
        self._kept_open = kept_open
        try:
            with self.file.stream() as stream:
                self._index = index_tar(stream, self.file.size, path)
        except OSError as error:
            raise self.file.unreadable(error) from error

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self._index)

    def text(self, row: int) -> bytes:
        """Return the record of a sample, see `record_of_sample`. Raises SampleError, DataChangedError."""
        return self._record(row)[0]

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the content of an image member, None where there is none. Raises SampleError, DataChangedError."""
        _, pictures = self._record(row)
        return self._content(row, pictures[number]) if 0 <= number < len(pictures) else None

    def write(self, rows: Sequence[int], path: Path) -> None:
        """Write some samples as a tar; see `write_samples`."""
        write_samples(self.file, self._index, rows, path)
        self._let_go()

    def release(self) -> None:
        """Close the file until it is needed again, unless it is kept open."""
        self._let_go()

    def _record(self, row: int) -> tuple[bytes, list[int]]:
        """Return the record of a sample, and which of its members its images are."""
        if row in self._index.faults:
            raise SampleError(Reason.INVALID_RECORD, self._index.faults[row])
        names = [self._index.name(member) for member in self._index.members_of(row)]
        return record_of_sample(names, self._content(row, json_member(names)))

    def _content(self, row: int, place: int) -> bytes:
        """Return the content of a member, `place` counting those of the sample."""
        member = self._index.members_of(row)[place]
        start = int(self._index.contents[member])
        content = self.file.read(start, start + int(self._index.sizes[member]))
        self._let_go()
        return content

    def _let_go(self) -> None:
        if not self._kept_open:
            self.file.release()

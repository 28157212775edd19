"""The records of WebDataset tars: the JSON member of every sample, its image members beside it, read in place."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.dataset.data_file import DataFile, fingerprint_of
from scalselect.dataset.record_source import WrittenFile
from scalselect.dataset.tar_index import index_tar
from scalselect.dataset.tar_sample import json_member, record_of_sample
from scalselect.dataset.tar_writing import write_samples
from scalselect.errors import DatasetError, SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT_OPEN = 64  # with more tars than these, each is opened for every read
_LOOKED_AT = 100


class TarRecords:
    """The samples of one or several tars, in the order given. Picklable; nobody needs a tar object to read them.

    A sample that cannot be used whole is a row all the same, with its fault: see `record_of_sample` and `TarIndex`.

    Parameters
    ----------
    paths
        The tars.

    Raises
    ------
    DatasetError
        One is missing, unreadable, damaged, or no tar; or all are empty.
    """

    container = "tar"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [_Tar(path) for path in paths]
        self._bounds = list(accumulate((len(part.index) for part in self._parts), initial=0))  # [tars + 1]
        if not len(self):
            what = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
            raise DatasetError(f"data file holds no record: {what} (wanted: tars with members such as `0001.json`)")

    @property
    def title(self) -> str:
        """The container in words."""
        return "a WebDataset tar" if len(self._parts) == 1 else f"{len(self._parts)} WebDataset tars"

    def __len__(self) -> int:
        return self._bounds[-1]

    def raw(self, row: int) -> bytes:
        """Return the record; `null` where the sample cannot be used. Raises DataChangedError."""
        try:
            return self._record(row)[0]
        except SampleError:
            return b"null"

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the content of an image member, None where the sample has no such. Raises DataChangedError."""
        try:
            _, pictures = self._record(row)
        except SampleError:
            return None
        part, sample = self._place(row)
        return self._content(part, sample, pictures[number]) if 0 <= number < len(pictures) else None

    def fault(self, row: int) -> str | None:
        """Return why a sample cannot be used, None where it can, or where only its JSON is at fault."""
        try:
            self._record(row)
        except SampleError as error:
            return error.detail
        return None

    def first_fault(self) -> str | None:
        """Return the first of the first 100 samples that is known to be of no use, and why; None if there is none."""
        faults = ((row, self.fault(row)) for row in range(min(len(self), _LOOKED_AT)))
        return next((f"record {row}: {fault}" for row, fault in faults if fault), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 and size of the tars, and the number of records; see `fingerprint_of`."""
        files = [part.file for part in self._parts]
        with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as threads:
            list(threads.map(DataFile.sha256, files))  # a file remembers its own
        return fingerprint_of(files, len(self))

    def check_unchanged(self) -> None:
        """Raise DataChangedError where a path no longer leads to the tar that was opened, as it was then."""
        for part in self._parts:
            part.file.check_unchanged()

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some samples, a tar for each that is read, even an empty one; see `RecordSource.write`.

        One tar becomes `target` with `.tar` behind its name, several the tars of the folder `target`, under the names
        they have.
        """
        if len(self._parts) == 1:
            paths = [target.with_name(f"{target.name}.tar")]
        else:
            folder = Path(os.path.commonpath([part.file.path.parent for part in self._parts]))
            paths = [target / part.file.path.relative_to(folder) for part in self._parts]
        written = []
        for number, (part, path) in enumerate(zip(self._parts, paths, strict=True)):
            start, stop = self._bounds[number : number + 2]
            samples = [row - start for row in rows[bisect_left(rows, start) : bisect_left(rows, stop)]]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_samples(part.file, part.index, samples, path)
            self._let_go(part)
            written.append(WrittenFile(path, len(samples)))
        return written

    def _record(self, row: int) -> tuple[bytes, list[int]]:
        """Return the record of a row and which of its members the images are. Raises SampleError."""
        part, sample = self._place(row)
        if sample in part.index.faults:
            raise SampleError(Reason.INVALID_RECORD, part.index.faults[sample])
        names = [part.index.name(member) for member in part.index.members_of(sample)]
        return record_of_sample(names, self._content(part, sample, json_member(names)))

    def _place(self, row: int) -> tuple[_Tar, int]:
        number = bisect_right(self._bounds, row) - 1
        return self._parts[number], row - self._bounds[number]

    def _content(self, part: _Tar, sample: int, place: int) -> bytes:
        """Return the content of a member, `place` counting those of the sample."""
        member = part.index.members_of(sample)[place]
        start = int(part.index.contents[member])
        content = part.file.read(start, start + int(part.index.sizes[member]))
        self._let_go(part)
        return content

    def _let_go(self, part: _Tar) -> None:
        if len(self._parts) > _KEPT_OPEN:
            part.file.release()


class _Tar:
    """One tar and its index."""

    def __init__(self, path: Path) -> None:
        self.file = DataFile(path)
        try:
            with self.file.stream() as stream:
                self.index = index_tar(stream, self.file.size, path)
            self.file.check_not_written_to()
        finally:
            self.file.release()

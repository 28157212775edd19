"""The records of a data file, each as the exact bytes it was written with, by row position.

A data file is mapped into memory while it is indexed and hashed, and only byte offsets are kept: 16 bytes a record
(the mapped pages may be taken back by the system at any time). Records are then read one by one; see `DataFile`.
"""

from __future__ import annotations

import mmap
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from scalselect.dataset.data_files import DataFile
from scalselect.dataset.json_index import WANTED, Container, array_offsets, line_offsets, recognise, what_follows
from scalselect.dataset.json_scanner import BrokenJsonError, skip_space
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DatasetError
from scalselect.storage import publish_stream, sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNREADABLE_BEGINNINGS = (  # the first that matches says what a file is
    (re.compile(rb"\x1f\x8b"), "is gzip-compressed: unpack it first"),
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), "is zip-compressed: unpack it first"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "is zstd-compressed: unpack it first"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "is bzip2-compressed: unpack it first"),
    (re.compile(rb"\xfd7zXZ\0"), "is xz-compressed: unpack it first"),
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|[\[{\" \t\r\n]\0\0\0"), "is UTF-32: save it as UTF-8"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[\[{\" \t\r\n]\0|\0[\[{\" \t\r\n]"), "is UTF-16: save it as UTF-8"),
)


class RecordFile:
    """A JSON array or JSON Lines file, indexed. Picklable: the path and offsets travel, the open file does not.

    Parameters
    ----------
    path
        The data file; what it holds is recognised by looking, not by its name.
    named
        What messages call it; default: `path`.

    Raises
    ------
    DatasetError
        The file is missing, unreadable, empty, broken, or neither of the two.
    DataChangedError
        It was written to while it was indexed.
    """

    def __init__(self, path: Path, *, named: Path | None = None) -> None:
        self._file = DataFile(path, named=named)
        try:
            self._read_through()
        except BaseException:  # whoever keeps the exception must not keep the file open
            self._file.release()
            raise

    def _read_through(self) -> None:
        try:
            data = mmap.mmap(self._file.descriptor(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self._file.unreadable(error) from error
        # Hashing lets other threads run, so it costs no time where there is a second core.
        with data, ThreadPoolExecutor(1) as beside:
            digest = beside.submit(sha256_of_bytes, data)
            self._index(data)
            self._sha256 = digest.result()
        self._file.check_not_written_to()

    def _index(self, data: mmap.mmap) -> None:
        path = self._file.named
        for beginning, what in _UNREADABLE_BEGINNINGS:
            if beginning.match(data):
                raise DatasetError(f"data file {what} ({path})")
        start = skip_space(data, len(_BYTE_ORDER_MARK) if data[:3] == _BYTE_ORDER_MARK else 0)
        if start == len(data):
            raise DatasetError(f"data file is empty: {path} ({WANTED})")
        self.container: Container = recognise(data, start, path)
        try:
            bounds = array_offsets(data, start) if self.container == "json" else line_offsets(data, start)
        except BrokenJsonError as error:
            raise DatasetError(f"data file is broken: {path} ({what_follows(data, error)})") from None
        self._starts, self._stops = bounds  # [records], [records]
        if not len(self):
            raise DatasetError(f"data file holds no record: {path} ({WANTED})")

    def __len__(self) -> int:
        return len(self._starts)

    def raw(self, row: int) -> bytes:
        """Return the record's own bytes, without the white space around it. Raises DataChangedError."""
        return self._file.read(int(self._starts[row]), int(self._stops[row]))

    def texts(self, rows: Sequence[int]) -> Iterator[bytes]:
        """Yield the own bytes of some records, ascending; faster than `raw` of each. Raises DataChangedError."""
        return self._file.read_ranges(self._starts[rows].tolist(), self._stops[rows].tolist())

    @property
    def title(self) -> str:
        """The container in words."""
        return "a JSON array" if self.container == "json" else "JSON Lines"

    def embedded(self, row: int, number: int) -> bytes | None:  # noqa: ARG002  JSON has no bytes beside its text
        """Return None: whatever a JSON record holds lies in its own text."""
        return None

    def fault(self, row: int) -> str | None:  # noqa: ARG002
        """Return why a record could not even be written as JSON: never the case in a file."""
        return None

    def first_fault(self) -> str | None:
        """Return None; see `fault`."""
        return None

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records with the bytes they had; see `RecordSource.write`."""
        path = target.with_name(f"{target.name}.{self.container}")
        lines = self.container == "jsonl"
        with publish_stream(path) as stream:
            stream.write(b"" if lines else b"[\n")
            stream.flush()
            starts, stops = self._starts[rows].tolist(), self._stops[rows].tolist()
            self._file.copy_ranges(stream.fileno(), starts, stops, between=b"\n" if lines else b",\n")
            stream.write(b"\n" if len(rows) else b"")
            stream.write(b"" if lines else b"]\n")
        return [WrittenFile(path, len(rows))]

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 and size of the file as it was when opened, and the number of its records."""
        return {"sha256": self._sha256, "bytes": self._file.size, "records": len(self)}

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file that was opened, as it was then."""
        self._file.check_unchanged()

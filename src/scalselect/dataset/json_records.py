"""The records of a data file, each as the exact bytes it was written with, by row position.

A data file is mapped into memory while it is indexed and hashed, and only byte offsets are kept: 16 bytes a record
(the mapped pages may be taken back by the system at any time). Records are then read one by one from the file that
was opened, which stays readable when another one takes its name. That nobody wrote to it is seen by its size and the
time of its last write: a change in place that keeps the one and restores the other is out of reach.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import weakref
from typing import IO, TYPE_CHECKING, Any

from scalselect.dataset.json_index import WANTED, Container, array_offsets, line_offsets, recognise, what_follows
from scalselect.dataset.json_scanner import BrokenJsonError, skip_space
from scalselect.dataset.json_writing import write_json_records
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DataChangedError, DatasetError, did_you_mean
from scalselect.storage import publish_stream, sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNREADABLE_BEGINNINGS = (  # the first that matches says what a file is
    (re.compile(rb"\x1f\x8b"), "is gzip-compressed: unpack it first"),
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|[\[{\" \t\r\n]\0\0\0"), "is UTF-32: save it as UTF-8"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[\[{\" \t\r\n]\0|\0[\[{\" \t\r\n]"), "is UTF-16: save it as UTF-8"),
)


class RecordFile:
    """A JSON array or JSON Lines file, indexed. Picklable: the path and offsets travel, the open file does not.

    Parameters
    ----------
    path
        The data file; what it holds is recognised by looking, not by its name.

    Raises
    ------
    DatasetError
        The file is missing, unreadable, empty, broken, or neither of the two.
    DataChangedError
        It was written to while it was indexed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_is_file(path)
        self._stream: IO[bytes] | None = None
        try:
            stream = path.open("rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._version = _version_of(os.fstat(stream.fileno()))
            self._read_through(stream)
        except BaseException:  # whoever keeps the exception must not keep the file open
            stream.close()
            raise
        self._keep(stream)

    def _read_through(self, stream: IO[bytes]) -> None:
        if self._size == 0:  # an empty file cannot be mapped
            raise DatasetError(f"data file is empty: {self.path} ({WANTED})")
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self._unreadable(error) from error
        with data:
            self._index(data)
            self._sha256 = sha256_of_bytes(data)
        self._check_version(os.fstat(stream.fileno()))

    def _index(self, data: mmap.mmap) -> None:
        path = self.path
        for beginning, what in _UNREADABLE_BEGINNINGS:
            if beginning.match(data):
                raise DatasetError(f"data file {what} ({path})")
        start = skip_space(data, len(_BYTE_ORDER_MARK) if data[:3] == _BYTE_ORDER_MARK else 0)
        if start == self._size:
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stream": None}

    @property
    def _size(self) -> int:
        return self._version[2]

    def raw(self, row: int) -> bytes:
        """Return the record's own bytes, without the white space around it. Raises DataChangedError."""
        position, stop = int(self._starts[row]), int(self._stops[row])
        file = self._opened().fileno()
        pieces: list[bytes] = []
        while position < stop:  # one call reads at most about 2 GB
            piece = os.pread(file, stop - position, position)
            if not piece:
                raise self._changed("it is shorter now")
            pieces.append(piece)
            position += len(piece)
        self._check_version(os.fstat(file))  # after reading, so that what was read is what was indexed
        return b"".join(pieces)

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
        with publish_stream(path) as stream:
            write_json_records(stream, self.raw, rows, lines=self.container == "jsonl")
        return [WrittenFile(path, len(rows))]

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 and size of the file as it was when opened, and the number of its records."""
        return {"sha256": self._sha256, "bytes": self._size, "records": len(self)}

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file that was opened, as it was then."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise self._changed(str(error.strerror)) from error
        self._check_version(found)

    def _opened(self) -> IO[bytes]:
        """Return the open file; after unpickling, open it first and check that it is the same."""
        if self._stream is not None:
            return self._stream
        try:
            stream = self.path.open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._changed(str(error.strerror)) from error
        try:
            self._check_version(os.fstat(stream.fileno()))
        except BaseException:
            stream.close()
            raise
        return self._keep(stream)

    def _keep(self, stream: IO[bytes]) -> IO[bytes]:
        # Two threads may each open the file. Either stream serves, and each is closed when this object goes away, not
        # when the other one takes its place: it may be in use.
        weakref.finalize(self, stream.close)
        self._stream = stream
        return stream

    def _check_version(self, found: os.stat_result) -> None:
        if _version_of(found) != self._version:
            raise self._changed("another file lies there, or it was written to")

    def _unreadable(self, error: OSError) -> DatasetError:
        return DatasetError(f"data file cannot be read: {self.path} ({error.strerror})")

    def _changed(self, how: str) -> DataChangedError:
        return DataChangedError(f"data file has changed since it was opened: {self.path} ({how})")


def _version_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file is replaced or written to: device, inode, size, time of the last write."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_is_file(path: Path) -> None:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            raise DatasetError(f"data file cannot be read: {path} ({error.strerror})") from error
        near = did_you_mean(path.name, _names_in(path.parent))
        folder = "" if path.parent.is_dir() else f" (nor does its folder: {path.parent})"
        raise DatasetError(f"data file does not exist: {path}{near}{folder}") from None
    except ValueError:  # a NUL byte in the name
        raise DatasetError(f"data file does not exist: {str(path)!r}") from None
    if stat.S_ISDIR(found.st_mode):
        inside = sorted(name for name in _names_in(path) if name.endswith((".json", ".jsonl")))
        holds = f"; it holds {', '.join(inside[:3])}" if inside else ""
        raise DatasetError(f"data file is a folder: {path} (wanted: one JSON or JSON Lines file{holds})")
    if not stat.S_ISREG(found.st_mode):
        raise DatasetError(f"data file is no regular file: {path} (wanted: a file on disk; pipes cannot be read twice)")


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:  # no folder, or one that may not be listed
        return []

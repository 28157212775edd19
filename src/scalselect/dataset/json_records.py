"""The records of a data file or Python list, each as the exact bytes it was written with, by row position.

A data file is mapped into memory while it is indexed and hashed, and only byte offsets are kept: 16 bytes a record
(the mapped pages may be taken back by the system at any time). Records are then read one by one from the file that
was opened, which stays readable when another one takes its name. That nobody wrote to it is seen by its size and the
time of its last write: a change in place that keeps the one and restores the other is out of reach.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import mmap
import os
import re
import stat
import weakref
from array import array
from collections.abc import Mapping
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from scalselect.dataset.json_scanner import BrokenJsonError, array_bounds, check_value, end_of_value, skip_space
from scalselect.errors import DataChangedError, DatasetError, did_you_mean
from scalselect.storage import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Container = Literal["json", "jsonl"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SEPARATOR = re.compile(rb"[ \t\n\r]*+,?+[ \t\n\r]*+")
_LINE_SPACE = b" \t\r"
_UNREADABLE_BEGINNINGS = (  # the first that matches says what a file is
    (re.compile(rb"\x1f\x8b"), "is gzip-compressed: unpack it first"),
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|[\[{\" \t\r\n]\0\0\0"), "is UTF-32: save it as UTF-8"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[\[{\" \t\r\n]\0|\0[\[{\" \t\r\n]"), "is UTF-16: save it as UTF-8"),
)
_LINES_LOOKED_AT = 100
_SHOWN_BYTES = 24
_COUNTED_AT_ONCE = 1 << 24
_WANTED = "wanted: a JSON array of records such as `[{...}, {...}]`, or JSON Lines with one record on each line"


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
            raise DatasetError(f"data file is empty: {self.path} ({_WANTED})")
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
            raise DatasetError(f"data file is empty: {path} ({_WANTED})")
        self.container: Container = _recognise(data, start, path)
        try:
            bounds = _array_offsets(data, start) if self.container == "json" else _line_offsets(data, start)
        except BrokenJsonError as error:
            raise DatasetError(f"data file is broken: {path} ({_what_follows(data, error)})") from None
        self._starts, self._stops = bounds  # [records], [records]
        if not len(self):
            raise DatasetError(f"data file holds no record: {path} ({_WANTED})")

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

    def fault(self, _row: int) -> str | None:
        """Return why a record could not even be written as JSON: never the case in a file."""
        return None

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


class RecordList:
    """Records given as a Python list: each is encoded once, and what cannot be is remembered as the row's fault.

    Paths are written as their text, NumPy's and other scalars with an `item` method as the Python value they hold.

    Raises
    ------
    DatasetError
        The list is empty.
    """

    container: Container = "json"
    path = None

    def __init__(self, records: Sequence[Mapping[str, object]]) -> None:
        self._faults: dict[int, str] = {}
        self._encoded = [self._encode(row, record) for row, record in enumerate(records)]
        if not self._encoded:
            raise DatasetError("list of records is empty: [] (wanted: at least one record)")

    def __len__(self) -> int:
        return len(self._encoded)

    def raw(self, row: int) -> bytes:
        """Return the record as JSON in UTF-8; `null` where it could not be written as JSON."""
        return self._encoded[row]

    def fault(self, row: int) -> str | None:
        """Return why the record could not be written as JSON, None if it could."""
        return self._faults.get(row)

    def first_fault(self) -> str | None:
        """Return which record is the first that could not be written as JSON, and why; None if all could."""
        return next((f"record {row} {fault}" for row, fault in self._faults.items()), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 over the encoded records with a line feed after each, their size and number."""
        digest = hashlib.sha256()
        for encoded in self._encoded:
            digest.update(encoded + b"\n")
        return {"sha256": digest.hexdigest(), "bytes": sum(map(len, self._encoded)), "records": len(self)}

    def check_unchanged(self) -> None:
        """Do nothing: the records were encoded once, and stay."""

    def _encode(self, row: int, record: object) -> bytes:
        plain = dict(record) if isinstance(record, Mapping) else record
        try:
            try:
                return json.dumps(plain, ensure_ascii=False, default=_as_plain).encode()
            except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
                return json.dumps(plain, default=_as_plain).encode()
        except (TypeError, ValueError, RecursionError) as error:
            self._faults[row] = f"cannot be written as JSON: {error}"
            return b"null"


def _as_plain(value: object) -> Any:
    """Return what `json` can write for a path or a scalar. Raises TypeError for anything else."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


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


def _recognise(data: mmap.mmap, start: int, path: Path) -> Container:
    if data[start : start + 1] == b"[":
        return "json"
    lines = list(islice(_line_bounds(data, start), _LINES_LOOKED_AT))
    if _is_object(data[slice(*lines[0])]):
        return "jsonl"
    spread = DatasetError(f"data file holds one JSON object spread over several lines: {path} ({_WANTED})")
    if data[start : start + 1] == b"{":
        try:
            stop = end_of_value(data, start)
        except BrokenJsonError:  # so this is a broken line, or a broken object
            pass
        else:
            if stop > lines[0][1]:
                raise spread
    # A broken first line of JSON Lines is a bad row. The lines of a printed object are indented or end in a comma.
    if any(data[first - 1 : first] == b"\n" and _is_object(data[first:last]) for first, last in lines[1:]):
        return "jsonl"
    if data[start : start + 1] == b"{" and len(lines) > 1:
        raise spread
    beginning = _text_at(data, start)
    raise DatasetError(f"data file is neither a JSON array nor JSON Lines: {path} begins with {beginning} ({_WANTED})")


def _is_object(line: bytes) -> bool:
    try:
        check_value(line, 0)
    except BrokenJsonError:
        return False
    return line.startswith(b"{")


def _array_offsets(data: mmap.mmap, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        return _as_arrays(_decoded_bounds(data, start))
    except (msgspec.MsgspecError, RecursionError):  # NaN and the like, or really broken
        return _as_arrays(array_bounds(data, start))


def _decoded_bounds(data: mmap.mmap, start: int) -> Iterator[tuple[int, int]]:
    records = msgspec.json.decode(memoryview(data)[start:], type=list[msgspec.Raw])
    position = skip_space(data, start + 1)
    for record in records:
        stop = position + len(record)
        yield position, stop
        separator = _SEPARATOR.match(data, stop)
        position = stop if separator is None else separator.end()


def _line_offsets(data: mmap.mmap, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return _as_arrays(_line_bounds(data, start))


def _line_bounds(data: mmap.mmap, start: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of every line that is not blank, less the white space at its ends."""
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end]
        kept = line.strip(_LINE_SPACE)
        if kept:
            first = start + len(line) - len(line.lstrip(_LINE_SPACE))
            yield first, first + len(kept)
        start = end + 1


def _as_arrays(bounds: Iterable[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    flat = array("q")
    for pair in bounds:
        flat.extend(pair)
    pairs = np.frombuffer(flat, dtype=np.int64).reshape(-1, 2)  # [records, 2]
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _what_follows(data: mmap.mmap, error: BrokenJsonError) -> str:
    at_end = error.position >= len(data)
    what = "the file ends there" if at_end else f"there follows {_text_at(data, error.position)}"
    return f"line {_line_of(data, error.position)}, at byte {error.position}: {error.problem}; {what}"


def _line_of(data: mmap.mmap, position: int) -> int:
    """Return the number, from 1, of the line that holds the byte."""
    steps = range(0, position, _COUNTED_AT_ONCE)
    return 1 + sum(data[start : min(start + _COUNTED_AT_ONCE, position)].count(b"\n") for start in steps)


def _text_at(data: mmap.mmap, position: int) -> str:
    """Return the beginning of what stands there, quoted, its control characters escaped."""
    shown = data[position : position + _SHOWN_BYTES]
    return repr(codecs.getincrementaldecoder("utf-8")("replace").decode(shown))  # less half a character at the cut

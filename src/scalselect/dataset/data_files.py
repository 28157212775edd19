"""The files of a data set: read by range of bytes, told apart from whatever lies under their names later, and hashed.

A file is read as it was when it was opened, and stays readable when another one takes its name. That nobody wrote to
it is seen by its size and the time of its last write: a change in place that keeps the one and restores the other is
out of reach.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import TYPE_CHECKING, Any

from scalselect.errors import DataChangedError, DatasetError, did_you_mean

if TYPE_CHECKING:
    Buffer = bytes | memoryview

    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONTAINERS_READ = "JSON, JSON Lines (these also in gzip), Parquet, Arrow or a WebDataset tar"
_RANGES_AT_ONCE = 128
_POPULATE_READ = 22  # MADV_POPULATE_READ, which Python does not name
_COPIED_AT_ONCE = 512  # ranges, each two of the 1,024 pieces that the system writes at once
_WINDOW = 1 << 22  # bytes read at once for the sake of some ranges in them


class DataFile:
    """One file, opened when it is first read. Picklable: the path travels, the open file does not.

    Parameters
    ----------
    path
        The file.
    named
        What messages call it; default: `path`.

    Raises
    ------
    DatasetError
        It is missing, cannot be looked at, is no regular file, or is empty.
    """

    def __init__(self, path: Path, *, named: Path | None = None) -> None:
        self.path = path
        self.named = named or path
        self._sha256: str | None = None
        self._opened_file: _Opened | None = None
        self._version = _version_of(_stat_of_file(path))
        if not self.size:
            raise DatasetError(f"data file is empty: {self.named}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened_file": None}

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._version[2]

    def descriptor(self) -> int:
        """Return the descriptor of the open file, which lives as long as this object, or until `release`.

        Raises
        ------
        DataChangedError
            Another file lies there by now, or none.
        OSError
            The file may not be read.
        """
        return self._opened().descriptor

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop` (excluded). Raises DataChangedError."""
        opened = self._opened()  # held here: another thread may release it
        pieces: list[bytes] = []
        while start < stop:  # one call reads at most about 2 GB
            piece = os.pread(opened.descriptor, stop - start, start)
            if not piece:
                raise self._changed("it is shorter now")
            pieces.append(piece)
            start += len(piece)
        self._check_version(os.fstat(opened.descriptor))  # after reading: what was read is what was opened
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ranges(self, starts: Sequence[int], stops: Sequence[int]) -> Iterator[bytes]:
        """Yield the bytes of ranges, ascending; those near each other are read at once. Raises DataChangedError."""
        for place in range(0, len(starts), _RANGES_AT_ONCE):
            bounds = [
                *zip(starts[place : place + _RANGES_AT_ONCE], stops[place : place + _RANGES_AT_ONCE], strict=True)
            ]
            first, last = bounds[0][0], bounds[-1][1]
            if last - first <= _WINDOW:
                whole = self.read(first, last)
                yield from (whole[start - first : stop - first] for start, stop in bounds)
            else:
                yield from (self.read(start, stop) for start, stop in bounds)

    def copy_ranges(self, target: int, starts: Sequence[int], stops: Sequence[int], *, between: bytes) -> None:
        """Append ranges to an open file, `between` them these bytes: the system copies them, this process does not.

        Parameters
        ----------
        target
            Descriptor of the open file.

        Raises
        ------
        DataChangedError
            The file was written to or cut.
        OSError
            The other file cannot be written.
        """
        mapped = mmap.mmap(self.descriptor(), 0, access=mmap.ACCESS_READ)
        view = memoryview(mapped)
        for place in range(0, len(starts), _COPIED_AT_ONCE):
            some = slice(place, place + _COPIED_AT_ONCE)
            pieces: list[Buffer] = [between] * (2 * len(starts[some]))
            pieces[::2] = [view[start:stop] for start, stop in zip(starts[some], stops[some], strict=True)]
            if some.stop >= len(starts):
                pieces.pop()
            _map_at_once(mapped, starts[place], stops[some][-1])
            try:
                _write_all(target, pieces)
            except OSError as error:
                if error.errno == errno.EFAULT:  # the mapped pages are gone; the system tells it, and no signal does
                    raise self._changed("it is shorter now") from error
                raise
        self.check_not_written_to()

    def stream(self) -> FileIO:
        """Return the file opened once more, unbuffered, to be closed by the caller; raises as `descriptor`."""
        try:
            stream = FileIO(self.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._changed(str(error.strerror)) from error
        try:
            self._check_version(os.fstat(stream.fileno()))
        except BaseException:
            stream.close()
            raise
        return stream

    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of the file, which is read through once. Raises DataChangedError."""
        if self._sha256 is None:
            with self.stream() as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                self._check_version(os.fstat(stream.fileno()))  # so that what was read is what was opened
            self._sha256 = digest
        return self._sha256

    def release(self) -> None:
        """Close the file as soon as nobody reads from it; it is opened again when it is needed."""
        self._opened_file = None

    def check_not_written_to(self) -> None:
        """Raise DataChangedError where somebody wrote to the file that was opened."""
        self._check_version(os.fstat(self._opened().descriptor))

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file that was opened, as it was then."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise self._changed(str(error.strerror)) from error
        self._check_version(found)

    def unreadable(self, error: OSError) -> DatasetError:
        """Return what to raise where the system does not let the file be read."""
        return DatasetError(f"data file cannot be read: {self.named} ({error.strerror})")

    def _opened(self) -> _Opened:
        """Return the open file; after unpickling, open it first and check that it is the same."""
        opened = self._opened_file
        if opened is not None:
            return opened
        opened = _Opened(self.stream())
        self._opened_file = opened  # two threads may both come here: either file serves, the other is closed after use
        return opened

    def _check_version(self, found: os.stat_result) -> None:
        if _version_of(found) != self._version:
            raise self._changed("another file lies there, or it was written to")

    def _changed(self, how: str) -> DataChangedError:
        return DataChangedError(f"data file has changed since it was opened: {self.named} ({how})")


def fingerprint_of(files: Sequence[DataFile], records: int) -> dict[str, str | int]:
    """Return `sha256`, `bytes` and `records` of a data set.

    The hash is that of its file; where there are several, that of one line for each, `SHA256 SIZE` and a line feed, in
    their order. Raises DataChangedError.
    """
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as threads:
        list(threads.map(DataFile.sha256, files))  # each remembers its own
    lines = [f"{file.sha256()} {file.size}\n" for file in files]
    sha256 = files[0].sha256() if len(files) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"sha256": sha256, "bytes": sum(file.size for file in files), "records": records}


def begins_with(path: Path, beginning: bytes) -> bool:
    """Tell whether a file can be read and begins with some bytes."""
    return first_bytes(path, len(beginning)) == beginning


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file; none where it cannot be read: what opens it will say why."""
    try:
        if not path.is_file():  # a pipe could be read only once
            return b""
        with path.open("rb") as stream:
            return stream.read(count)
    except (OSError, ValueError):  # a NUL byte in the name
        return b""


def _map_at_once(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Map the pages of a stretch together where the system can, which costs far less than one by one."""
    start -= start % mmap.PAGESIZE
    if sys.platform == "linux" and stop - start <= _WINDOW << 2:
        with contextlib.suppress(OSError):  # before Linux 5.14
            mapped.madvise(_POPULATE_READ, start, stop - start)


def _write_all(target: int, pieces: list[Buffer]) -> None:
    while pieces:
        written = os.writev(target, pieces)
        whole = 0
        while whole < len(pieces) and written >= len(pieces[whole]):
            written -= len(pieces[whole])
            whole += 1
        pieces = pieces[whole:]
        if written:
            pieces[0] = memoryview(pieces[0])[written:]


class _Opened:
    """An open file, closed when the last who uses it lets go of it."""

    def __init__(self, stream: FileIO) -> None:
        self.descriptor = stream.fileno()
        weakref.finalize(self, stream.close)


def _version_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file is replaced or written to: device, inode, size, time of the last write."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _stat_of_file(path: Path) -> os.stat_result:
    """Return what the system knows of a file. Raises DatasetError where it is none."""
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
        raise DatasetError(
            f"data file is a folder: {path} (wanted: a file of {CONTAINERS_READ}, or a folder of one of the last "
            f"three kinds{holds})"
        )
    if not stat.S_ISREG(found.st_mode):
        raise DatasetError(f"data file is no regular file: {path} (wanted: a file on disk; pipes cannot be read twice)")
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:  # no folder, or one that may not be listed
        return []

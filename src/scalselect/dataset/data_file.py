"""One data file on disk, read by range of bytes, and told apart from whatever lies under its name later.

It is read from the file that was opened, which stays readable when another one takes its name. That nobody wrote to it
is seen by its size and the time of its last write: a change in place that keeps the one and restores the other is out
of reach.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from typing import IO, TYPE_CHECKING, Any

from scalselect.errors import DataChangedError, DatasetError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path


class DataFile:
    """A file of records, open for reading. Picklable: the path travels, the open file does not.

    Parameters
    ----------
    path
        The file.
    named
        What messages call it; default: `path`.

    Raises
    ------
    DatasetError
        It is missing, unreadable or no regular file.
    """

    def __init__(self, path: Path, *, named: Path | None = None) -> None:
        self._path = path
        self.named = named or path
        _check_is_file(path)
        try:
            opened = _Opened(path)
        except OSError as error:
            raise self.unreadable(error) from error
        self._opened_file: _Opened | None = opened
        self._version = _version_of(os.fstat(opened.descriptor))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened_file": None}

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._version[2]

    def descriptor(self) -> int:
        """Return the descriptor of the open file, which lives as long as this object, or until `release`."""
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

    def release(self) -> None:
        """Close the file as soon as nobody reads from it; it is opened again when it is needed."""
        self._opened_file = None

    def check_not_written_to(self) -> None:
        """Raise DataChangedError where somebody wrote to the file that was opened."""
        self._check_version(os.fstat(self._opened().descriptor))

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file that was opened, as it was then."""
        try:
            found = self._path.stat()
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
        try:
            opened = _Opened(self._path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._changed(str(error.strerror)) from error
        self._check_version(os.fstat(opened.descriptor))
        self._opened_file = opened  # two threads may both come here: either file serves, the other is closed after use
        return opened

    def _check_version(self, found: os.stat_result) -> None:
        if _version_of(found) != self._version:
            raise self._changed("another file lies there, or it was written to")

    def _changed(self, how: str) -> DataChangedError:
        return DataChangedError(f"data file has changed since it was opened: {self.named} ({how})")


class _Opened:
    """An open file, closed when the last who uses it lets go of it."""

    def __init__(self, path: Path) -> None:
        stream: IO[bytes] = path.open("rb", buffering=0)
        self.descriptor = stream.fileno()
        weakref.finalize(self, stream.close)


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

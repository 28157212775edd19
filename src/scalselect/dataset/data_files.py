"""A file of a data set as it was when the data set was opened: what tells a change, and what it is known by."""

from __future__ import annotations

import errno
import hashlib
import stat
from typing import TYPE_CHECKING

from scalselect.errors import DataChangedError, DatasetError, did_you_mean
from scalselect.storage import sha256_of_file

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path


class DataFile:
    """One file, by its device, inode, size and the time of its last write. Picklable.

    Parameters
    ----------
    path
        The file, an absolute path.

    Raises
    ------
    DatasetError
        It does not exist, cannot be read, is no regular file, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sha256: str | None = None
        try:
            found = path.stat()
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise DatasetError(f"data file cannot be read: {path} ({error.strerror})") from error
            raise DatasetError(f"data file does not exist: {path}{_near(path)}") from None
        if not stat.S_ISREG(found.st_mode):
            raise DatasetError(f"data file is no regular file: {path} (wanted: a file on disk)")
        if not found.st_size:
            raise DatasetError(f"data file is empty: {path}")
        self._version = _version_of(found)

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._version[2]

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file as it was."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise self._changed(str(error.strerror)) from error
        if _version_of(found) != self._version:
            raise self._changed("another file lies there, or it was written to")

    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of the file, read once. Raises DataChangedError."""
        if self._sha256 is None:
            try:
                digest = sha256_of_file(self.path)
            except OSError as error:
                raise self._changed(str(error.strerror)) from error
            self.check_unchanged()  # so that what was read is what was opened
            self._sha256 = digest
        return self._sha256

    def _changed(self, how: str) -> DataChangedError:
        return DataChangedError(f"data file has changed since it was opened: {self.path} ({how})")


def fingerprint_of(files: Sequence[DataFile], records: int) -> dict[str, str | int]:
    """Return `sha256`, `bytes` and `records` of a data set.

    The hash is that of its file; where there are several, that of one line for each, `SHA256 SIZE` and a line feed, in
    their order. Raises DataChangedError.
    """
    lines = [f"{file.sha256()} {file.size}\n" for file in files]
    sha256 = files[0].sha256() if len(files) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"sha256": sha256, "bytes": sum(file.size for file in files), "records": records}


def begins_with(path: Path, beginning: bytes) -> bool:
    """Tell whether a file can be read and begins with some bytes."""
    try:
        if not path.is_file():  # a pipe could be read only once
            return False
        with path.open("rb") as stream:
            return stream.read(len(beginning)) == beginning
    except (OSError, ValueError):  # what opens it will say why; a NUL byte
        return False


def _version_of(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _near(path: Path) -> str:
    try:
        return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
    except (OSError, ValueError):  # no folder, or one that may not be listed
        return ""

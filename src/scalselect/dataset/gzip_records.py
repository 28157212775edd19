"""The records of a gzip-compressed JSON or JSON Lines file: unpacked once, beside nothing of the user's."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scalselect.dataset.data_files import DataFile, begins_with, fingerprint_of
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.json_writing import write_json_records
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DatasetError
from scalselect.storage import publish_stream
from scalselect.temporary_places import temporary_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAGIC = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes unpacked at once
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LEVEL = 6  # what the gzip command uses; Python's default takes three times as long for 1 % less


def begins_as_gzip(path: Path) -> bool:
    """Tell whether a file begins as gzip does; False also where it cannot be read."""
    return begins_with(path, _MAGIC)


class GzipRecordFile:
    """A gzip-compressed JSON array or JSON Lines file, unpacked into a temporary file and indexed there. Picklable.

    The temporary file lies in the system's folder for such files (`TMPDIR`) and is as large as the data unpacked. It
    goes when this object does, and when the process ends; one that a killed process left goes when the next one makes
    such a file. Copies made by pickling or forking
    read it too and never delete it.

    Parameters
    ----------
    path
        The compressed file; any number of gzip members, one after the other.

    Raises
    ------
    DatasetError
        The file is missing, unreadable, damaged or cut short, there is no room to unpack it, or what is in it is no
        JSON array and no JSON Lines.
    DataChangedError
        It was written to while it was unpacked.
    """

    def __init__(self, path: Path) -> None:
        self._file = DataFile(path)
        try:
            unpacked = _unpack(self._file)
            self._delete = weakref.finalize(self, _delete, unpacked, os.getpid())
            try:
                self._records = RecordFile(unpacked, named=path)
            except BaseException:  # whoever keeps the exception must not keep the file
                self._delete()
                raise
        finally:
            self._file.release()  # from here on only the unpacked file is read

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_delete"}

    @property
    def container(self) -> str:
        """`json.gz` or `jsonl.gz`."""
        return f"{self._records.container}.gz"

    @property
    def title(self) -> str:
        """The container in words."""
        return f"{self._records.title}, gzip-compressed"

    def __len__(self) -> int:
        return len(self._records)

    def raw(self, row: int) -> bytes:
        """Return the record's own bytes, without the white space around it. Raises DataChangedError."""
        return self._records.raw(row)

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return None: whatever a JSON record holds lies in its own text."""
        return self._records.embedded(row, number)

    def fault(self, row: int) -> str | None:
        """Return None; see `RecordFile.fault`."""
        return self._records.fault(row)

    def first_fault(self) -> str | None:
        """Return None; see `RecordFile.fault`."""
        return self._records.first_fault()

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records with the bytes they had, compressed; the same records give the same file."""
        path = target.with_name(f"{target.name}.{self.container}")
        lines = self._records.container == "jsonl"
        with (
            publish_stream(path) as stream,
            gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0) as packed,
        ):
            write_json_records(packed, self._records.texts(rows), lines=lines)
        return [WrittenFile(path, len(rows))]

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 and size of the compressed file as it was when opened, and the number of its records."""
        return fingerprint_of([self._file], len(self))

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the path no longer leads to the file that was opened, as it was then."""
        self._file.check_unchanged()


def _unpack(file: DataFile) -> Path:
    """Return the temporary file that a compressed file was unpacked into."""
    unpacked: Path | None = None
    try:
        file.sha256()
        with file.stream() as stream:
            handle, name = tempfile.mkstemp(prefix=temporary_prefix(), suffix=".json")
            unpacked = Path(name)
            with os.fdopen(handle, "wb") as target:
                _copy_unpacked(stream, target, file.named)
        file.check_not_written_to()
    except BaseException as error:
        if unpacked is not None:
            unpacked.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DatasetError(_no_room(error, file.named, unpacked)) from error
        raise
    return unpacked


def _copy_unpacked(stream: IO[bytes], unpacked: IO[bytes], path: Path) -> None:
    with gzip.GzipFile(fileobj=stream, mode="rb") as content:
        first = True
        while piece := _piece_of(content, path):
            if first and piece[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
                advice = "unpack it to a .tar first: the members of a tar are read in place"
                raise DatasetError(f"data file is a gzip-compressed tar: {path} ({advice})")
            unpacked.write(piece)
            first = False


def _piece_of(content: gzip.GzipFile, path: Path) -> bytes:
    try:
        return content.read(_PIECE)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        how = "it is cut short" if isinstance(error, EOFError) else str(error)
        raise DatasetError(f"data file is damaged, it cannot be unpacked: {path} ({how})") from None


def _no_room(error: OSError, path: Path, unpacked: Path | None) -> str:
    if unpacked is None or error.errno not in _NO_ROOM:
        return f"data file cannot be unpacked: {path} ({error.strerror or error})"
    advice = "set TMPDIR to a folder with more room, or unpack it yourself"
    return f"no room in {unpacked.parent} to unpack {path} ({advice})"


def _delete(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has a copy of the object, and the file is not its own
        path.unlink(missing_ok=True)

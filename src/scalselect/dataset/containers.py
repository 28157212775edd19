"""What records are kept in, recognised by looking: opens a data file, or a list of records, as a `RecordSource`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.dataset.gzip_records import GzipRecordFile, begins_as_gzip
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.record_list import RecordList
from scalselect.errors import DatasetError, ScalselectError
from scalselect.hub_locations import pinned
from scalselect.local_copies import local_copy
from scalselect.remote_files import is_remote

if TYPE_CHECKING:
    from scalselect.dataset.record_source import RecordSource


def open_records(data: object) -> tuple[RecordSource, str | None]:
    """Return the records of a data file or list, whatever they are kept in, and where they lie. Raises DatasetError."""
    if isinstance(data, str) and is_remote(data):
        return _open_remote(data)
    if isinstance(data, (str, os.PathLike)):
        path = Path(os.fsdecode(data)).absolute()  # workers may stand in another folder
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DatasetError(f"the data file's path is not valid UTF-8, rename it: {str(path)!r}") from None
        records = GzipRecordFile(path) if begins_as_gzip(path) else RecordFile(path)
        return records, str(path)
    if isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray, memoryview)):
        return RecordList(data), None
    raise DatasetError(f"data must be the path of a file or a list of records: {type(data).__name__}")


def _open_remote(location: str) -> tuple[RecordSource, str]:
    """Open a local copy of a remote data file. Raises DatasetError, and what opening the copy raises."""
    try:
        location = pinned(location)
        copy = local_copy(location)
    except FileNotFoundError as error:
        raise DatasetError(f"data file does not exist: {location} ({error.strerror})") from None
    except IsADirectoryError:
        raise DatasetError(f"data file is a folder: {location} (wanted: one file)") from None
    except OSError as error:
        raise DatasetError(f"data file cannot be read: {location} ({error.strerror or error})") from error
    try:
        return open_records(copy)[0], location
    except ScalselectError as error:
        raise type(error)(str(error).replace(str(copy), location)) from error

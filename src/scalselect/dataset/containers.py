"""What records are kept in, recognised by looking: opens a data file, or a list of records, as a `RecordSource`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.dataset.gzip_records import GzipRecordFile, begins_as_gzip
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.record_list import RecordList
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from scalselect.dataset.record_source import RecordSource


def open_records(data: object) -> tuple[RecordSource, str | None]:
    """Return the records of a data file or list, whatever they are kept in, and where they lie. Raises DatasetError."""
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

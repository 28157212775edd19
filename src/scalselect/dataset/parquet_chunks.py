"""What the footer of a Parquet file tells of one column in one row group, asked so that damage cannot end the process.

Arrow looks at what the footer tells of a column when it is first asked for, and from Python (up to version 26 at least)
an error there ends the process with no exception. Reading the column meets the same error, and raises it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from typing import NoReturn

_SIZE = 1 << 62  # of the file that is never read: column chunks must lie inside


def column_chunk(file: pq.ParquetFile, group: int, leaf: int) -> Any:
    """Return the `ColumnChunkMetaData` of a leaf of an open file. Raises OSError, pa.ArrowException where damaged."""
    metadata = file.metadata
    nothing = _Unread()
    probe = pq.ParquetFile(pa.PythonFile(nothing, mode="r"), metadata=metadata)
    try:
        path = metadata.schema.column(leaf).path
        next(probe.iter_batches(1, row_groups=[group], columns=[path], use_threads=False), None)
    except (OSError, pa.ArrowException):
        if not nothing.asked:  # it stopped at the footer, not at the want of data
            raise
    return metadata.row_group(group).column(leaf)


class _Unread(io.RawIOBase):
    """A file whose bytes nobody gets, and whether they were asked for."""

    def __init__(self) -> None:
        self.asked = False
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: _SIZE}[whence]
        self._position = begin + offset
        return self._position

    def read(self, size: int = -1, /) -> NoReturn:  # noqa: ARG002
        self.asked = True
        raise OSError("no data: only the footer is looked at")

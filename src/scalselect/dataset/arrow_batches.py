"""The record batches of one Arrow IPC file or stream, mapped into memory, by their number; looked at before use.

Arrow trusts the offsets in a batch: to read one that was damaged may end the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as kinds

from scalselect.dataset.arrow_damage import check_array
from scalselect.dataset.data_files import begins_with
from scalselect.dataset.table_leaves import is_list, named_fields

if TYPE_CHECKING:
    from pathlib import Path

FILE_MAGIC = b"ARROW1"
_ROWS_A_BYTE = 64  # more than these no file holds, however well it is compressed


class FileBatches:
    """An open file in Arrow's file format, which keeps a table of its batches. Raises OSError, pa.ArrowInvalid."""

    def __init__(self, path: Path) -> None:
        self._bytes = path.stat().st_size
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema: pa.Schema = self._reader.schema
        self.metadata = self._reader.metadata

    def rows_of_batches(self) -> list[int]:
        """Return the number of rows of each batch, looking at all."""
        numbers = range(self._reader.num_record_batches)
        return [_rows_of(self._reader.get_batch(number), self._bytes) for number in numbers]

    def batch(self, number: int) -> pa.RecordBatch:
        """Return a batch. Raises pa.ArrowException, OSError where it is damaged."""
        return _checked(self._reader.get_batch(number))


class StreamBatches:
    """An open file in Arrow's stream format, which is read from its beginning once. Raises OSError, pa.ArrowInvalid."""

    metadata = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.stat().st_size
        self._restart()
        self.schema: pa.Schema = self._reader.schema
        self._in_sequence = any(_has_dictionary(kind) for _, kind in named_fields(self.schema))
        self._places: list[int] = []

    def _restart(self) -> None:
        self._map = pa.memory_map(str(self._path))
        self._reader = pa.ipc.open_stream(self._map)
        self._next = 0

    def rows_of_batches(self) -> list[int]:
        """Return the number of rows of each batch, looking at all."""
        rows = []
        while True:
            place = self._map.tell()
            try:
                rows.append(_rows_of(self._reader.read_next_batch(), self._bytes))
            except StopIteration:
                self._restart()
                return rows
            self._places.append(place)

    def batch(self, number: int) -> pa.RecordBatch:
        """Return a batch; where columns have dictionaries, which change on the way, by reading up to it.

        Raises
        ------
        pa.ArrowException, OSError
            It is damaged.
        """
        if not self._places:
            self.rows_of_batches()
        if not self._in_sequence:
            self._map.seek(self._places[number])
            return _checked(pa.ipc.read_record_batch(pa.ipc.read_message(self._map), self.schema))
        if number < self._next:
            self._restart()
        while True:
            batch = self._reader.read_next_batch()
            self._next += 1
            if self._next > number:
                return _checked(batch)


def open_batches(path: Path) -> FileBatches | StreamBatches:
    """Map a file into memory, whichever of the two it is. Raises OSError, pa.ArrowInvalid."""
    return FileBatches(path) if begins_with(path, FILE_MAGIC) else StreamBatches(path)


def _has_dictionary(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    if kinds.is_struct(kind) or kinds.is_union(kind):
        return any(_has_dictionary(inner) for _, inner in named_fields(kind))
    if kinds.is_map(kind):
        return _has_dictionary(kind.key_type) or _has_dictionary(kind.item_type)
    return _has_dictionary(kind.value_type) if is_list(kind) else bool(kinds.is_dictionary(kind))


def _rows_of(batch: pa.RecordBatch, file_bytes: int) -> int:
    """Return the number of rows of a batch. Raises pa.ArrowInvalid where the file is too small for them."""
    batch.validate()
    rows = int(batch.num_rows)
    if rows > _ROWS_A_BYTE * file_bytes:
        raise pa.ArrowInvalid(f"a record batch of {rows:,} rows in a file of {file_bytes:,} bytes")
    return rows


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch if nothing in it is damaged. Raises pa.ArrowInvalid."""
    for column in batch.columns:
        check_array(column)
    return batch

"""The records of Arrow IPC files, as files or streams, mapped into memory."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scalselect.dataset.arrow_batches import FILE_MAGIC, FileBatches, StreamBatches, open_batches
from scalselect.dataset.arrow_damage import ARROW_ERRORS, first_line, is_damage
from scalselect.dataset.data_files import DataFile, begins_with
from scalselect.dataset.table_columns import check_same_columns
from scalselect.dataset.table_records import TableRecords
from scalselect.dataset.table_rows import RowTexts
from scalselect.errors import DatasetError, SampleError
from scalselect.records import Reason
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_STREAM_BEGINS = b"\xff\xff\xff\xff"


def is_arrow(path: Path) -> bool:
    """Tell whether a file is Arrow IPC by its first bytes, or is meant as such by its name."""
    named = path.name.endswith((".arrow", ".feather", ".ipc"))
    return named or begins_with(path, FILE_MAGIC) or begins_with(path, _STREAM_BEGINS)


def open_arrow(paths: Sequence[Path]) -> TableRecords:
    """Return the records of one or several Arrow files, in the order given. Raises DatasetError."""
    title = "an Arrow file" if len(paths) == 1 else f"{len(paths)} Arrow files"
    tables = [ArrowTable(path) for path in paths]
    check_same_columns((table.file.path, table.schema) for table in tables)
    return TableRecords(tables, container="arrow", title=title, ending=".arrow")


class ArrowTable:
    """The rows of one Arrow file; every process maps it for itself. Picklable.

    Raises
    ------
    DatasetError
        The file is missing, empty or damaged, or two of its fields have the same name.
    """

    _open: tuple[FileBatches | StreamBatches, RowTexts] | None
    _last: tuple[int, pa.RecordBatch] | None
    _lock: threading.Lock
    _process: int

    def __init__(self, path: Path) -> None:
        self.file = DataFile(path)
        self._forget()
        try:
            batches, _ = self._opened()
            self.schema = batches.schema
            self._bounds: list[int] = list(accumulate(batches.rows_of_batches(), initial=0))  # [batches + 1]
        except ARROW_ERRORS as error:
            raise DatasetError(f"Arrow file cannot be read: {path} ({first_line(error)})") from error
        self.release()  # of thousands of files, few may be open at once

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "schema": self.schema, "_bounds": self._bounds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._bounds[-1]

    def text(self, row: int) -> bytes:
        """Return a row as JSON. Raises ValueError: a value without JSON; SampleError: damage; DataChangedError."""
        try:
            with self._cells(row) as (cells, texts):
                return texts.text(cells, {})
        except _DamagedError as error:
            raise SampleError(Reason.INVALID_RECORD, str(error)) from error

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return a bytes value of a row by its number, None where there is none.

        Raises
        ------
        SampleError
            `image_unreadable`: the record batch is damaged.
        DataChangedError
            The file has changed.
        """
        try:
            with self._cells(row) as (cells, texts):
                values = texts.bytes_values(cells)
                return bytes(values[number].as_py()) if 0 <= number < len(values) else None
        except ValueError as error:
            raise SampleError(Reason.IMAGE_UNREADABLE, str(error)) from error

    def write(self, rows: Sequence[int], path: Path) -> None:
        """Write some rows in the same format, with schema and metadata. Raises OSError, DataChangedError."""
        self.file.check_unchanged()
        batches = open_batches(self.file.path)
        with publish_stream(path) as stream, _writer_like(batches, stream) as writer:
            for number, (begin, end) in enumerate(pairwise(self._bounds)):
                of_batch = [row - begin for row in rows[bisect_left(rows, begin) : bisect_left(rows, end)]]
                if of_batch:
                    writer.write_batch(batches.batch(number).take(pa.array(of_batch, pa.int64())))
        self.file.check_unchanged()

    def release(self) -> None:
        """Close the file until it is needed again."""
        if self._process == os.getpid():
            with self._lock:
                self._open = self._last = None

    @contextmanager
    def _cells(self, row: int) -> Iterator[tuple[dict[str, Any], RowTexts]]:
        """Yield the cells of a row to one thread."""
        if self._process != os.getpid():  # a lock may have been held at the fork
            self._forget()
        with self._lock:
            self.file.check_unchanged()
            number = bisect_right(self._bounds, row) - 1
            within = row - self._bounds[number]
            try:
                batches, texts = self._opened()
                if self._last is None or self._last[0] != number:
                    self._last = None
                    self._last = number, batches.batch(number)
            except ARROW_ERRORS as error:
                if not is_damage(error):
                    raise
                raise _DamagedError(f"lies in a damaged record batch: {first_line(error)}") from error
            batch = self._last[1]
            yield {name: batch.column(place)[within] for place, name in enumerate(batch.schema.names)}, texts

    def _opened(self) -> tuple[FileBatches | StreamBatches, RowTexts]:
        if self._open is None:
            batches = open_batches(self.file.path)
            self._open = batches, RowTexts(batches.schema, self.file.path)
        return self._open

    def _forget(self) -> None:
        self._open = None
        self._last = None
        self._lock = threading.Lock()
        self._process = os.getpid()


class _DamagedError(ValueError):
    """A record batch that cannot be read."""


def _writer_like(batches: FileBatches | StreamBatches, stream: Any) -> Any:
    if isinstance(batches, StreamBatches):
        return pa.ipc.new_stream(stream, batches.schema)
    return pa.ipc.new_file(stream, batches.schema, metadata=batches.metadata)

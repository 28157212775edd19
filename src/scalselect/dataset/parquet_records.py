"""The records of Parquet files, read row group by row group, the text of a record apart from its images."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from scalselect.dataset.arrow_damage import ARROW_ERRORS, first_line
from scalselect.dataset.data_files import DataFile, begins_with
from scalselect.dataset.parquet_groups import RowGroups
from scalselect.dataset.parquet_writing import write_parquet_rows
from scalselect.dataset.table_columns import check_same_columns
from scalselect.dataset.table_records import TableRecords
from scalselect.errors import DataChangedError, DatasetError, SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Tell whether a file is a Parquet file, by its first bytes, or is meant as one, by its name."""
    return path.name.endswith(".parquet") or begins_with(path, _MAGIC)


def open_parquet(paths: Sequence[Path]) -> TableRecords:
    """Return the records of one or several Parquet files, in the order given. Raises DatasetError."""
    title = "a Parquet file" if len(paths) == 1 else f"{len(paths)} Parquet files"
    tables = [ParquetTable(path) for path in paths]
    check_same_columns((table.file.path, table.schema) for table in tables)
    return TableRecords(tables, container="parquet", title=title, ending=".parquet")


class ParquetTable:
    """The rows of one Parquet file; every process opens it for itself and holds one row group. Picklable.

    Raises
    ------
    DatasetError
        The file is missing, empty or damaged, or two of its fields have the same name.
    """

    _open: RowGroups | None
    _lock: threading.Lock
    _process: int

    def __init__(self, path: Path) -> None:
        self.file = DataFile(path)
        self._forget()
        try:
            groups = self._opened()
        except ARROW_ERRORS as error:
            raise DatasetError(f"Parquet file cannot be read: {path} ({first_line(error)})") from error
        self._bounds: list[int] = list(accumulate(groups.rows_of_groups, initial=0))  # [row groups + 1]
        self.schema = groups.schema
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
        group, within = self._place(row)
        try:
            with self._groups() as groups:
                return groups.text(group, within)
        except _DamagedError as error:
            raise SampleError(Reason.INVALID_RECORD, str(error)) from error

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return a bytes value of a row by its number, None where there is none.

        Raises
        ------
        SampleError
            `image_unreadable`: the row group is damaged.
        DataChangedError
            The file has changed.
        """
        group, within = self._place(row)
        try:
            with self._groups() as groups:
                values = groups.bytes_values(group, within)
                return bytes(values[number].as_py()) if 0 <= number < len(values) else None
        except ValueError as error:
            raise SampleError(Reason.IMAGE_UNREADABLE, str(error)) from error

    def write(self, rows: Sequence[int], path: Path) -> None:
        """Write some rows as a Parquet file of the same schema and metadata. Raises OSError, DataChangedError."""
        self.file.check_unchanged()
        write_parquet_rows(self.file.path, rows, path)
        self.file.check_unchanged()

    def release(self) -> None:
        """Close the file, and forget the row group, until they are needed again."""
        if self._process == os.getpid():
            with self._lock:
                self._open = None

    def _place(self, row: int) -> tuple[int, int]:
        group = bisect_right(self._bounds, row) - 1
        return group, row - self._bounds[group]

    @contextmanager
    def _groups(self) -> Iterator[RowGroups]:
        """Yield the open file to one thread; what Arrow raises of damage becomes a _DamagedError."""
        if self._process != os.getpid():  # a child must not share its parent's file, nor a lock held at the fork
            self._forget()
        with self._lock:
            try:
                yield self._opened()
            except OSError as error:
                self.file.check_unchanged()
                if error.errno is not None:
                    raise DataChangedError(f"data file cannot be read: {self.file.path} ({error.strerror})") from error
                raise _DamagedError(f"lies in a damaged row group: {first_line(error)}") from error

    def _opened(self) -> RowGroups:
        if self._open is None:
            self._open = RowGroups(self.file.path)
        self.file.check_unchanged()
        return self._open

    def _forget(self) -> None:
        self._open = None
        self._lock = threading.Lock()
        self._process = os.getpid()


class _DamagedError(ValueError):
    """A row group that cannot be read."""

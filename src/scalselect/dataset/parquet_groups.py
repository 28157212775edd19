"""The row groups of one open Parquet file: the text of their rows without the images wherever that is possible."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.dataset.arrow_damage import check_array, is_damage
from scalselect.dataset.parquet_chunks import column_chunk
from scalselect.dataset.table_leaves import Leaf, leaves, structs_around
from scalselect.dataset.table_rows import RowTexts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scalselect.dataset.table_leaves import LeafPath

_ROWS_A_BYTE = 1024  # more than these no file holds, however well it is compressed


class RowGroups:
    """An open file. Holds the row group last read, its text and its images apart; for one process and one thread.

    Images are left out of a row group where its statistics and what lies beside them tell which are null; else they
    are read with the text.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        The file cannot be read.
    DatasetError
        See `RowTexts`.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        metadata = self._file.metadata
        self.rows_of_groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        _check_rows(sum(self.rows_of_groups), path.stat().st_size)
        self.schema = schema = self._file.schema_arrow
        self._texts = RowTexts(schema, path)
        found = leaves(schema)
        if len(found) != metadata.num_columns:  # a type whose leaves lie otherwise: everything is read together
            found = [Leaf((name,), holds_bytes=False, beside=False) for name in schema.names]
            self._light = list(schema.names)
        else:
            places = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
            self._light = [place for place, leaf in zip(places, found, strict=True) if not leaf.holds_bytes]
        self._bytes = {number: leaf.path for number, leaf in enumerate(found) if leaf.holds_bytes}
        self._seen_beside = {leaf.path for leaf in found if leaf.beside}
        self._columns_with_bytes = list(dict.fromkeys(path[0] for path in self._bytes.values()))
        self._last_text: tuple[int, dict[str, Any], dict[LeafPath, bool]] | None = None
        self._last_bytes: tuple[int, dict[str, Any]] | None = None

    def text(self, group: int, row: int) -> bytes:
        """Return a row of a row group as JSON. Raises ValueError where a value has none, OSError."""
        if self._last_text is None or self._last_text[0] != group:
            self._last_text = None  # before the next one takes its place: one at a time
            self._last_text = (group, *self._read_text(group))
        _, columns, left_out = self._last_text
        return self._texts.text({name: column[row] for name, column in columns.items()}, left_out)

    def bytes_values(self, group: int, row: int) -> list[Any]:
        """Return the bytes values of a row as Arrow scalars, in the order of their numbers. Raises OSError."""
        columns = self._columns_of_bytes(group)
        return self._texts.bytes_values({name: column[row] for name, column in columns.items()})

    def _read_text(self, group: int) -> tuple[dict[str, Any], dict[LeafPath, bool]]:
        columns = self._read(group, self._light)
        left_out: dict[LeafPath, bool] = {}
        for name in self._columns_with_bytes:
            known = self._presence(group, name, columns)
            if known is None:
                columns[name] = self._columns_of_bytes(group)[name]
            else:
                left_out |= known
        return columns, left_out

    def _presence(self, group: int, name: str, columns: dict[str, Any]) -> dict[LeafPath, bool] | None:
        """Return for each bytes leaf of a column whether it is filled everywhere (true) or nowhere.

        None where that is not known, or neither.
        """
        known: dict[LeafPath, bool] = {}
        for number, path in self._bytes.items():
            if path[0] != name:
                continue
            filled = self._values(group, number)
            if len(path) == 1:
                places: int | None = self.rows_of_groups[group]
            elif path in self._seen_beside:
                places = structs_around(columns[name], path)
            else:
                places = None
            if filled is None or places is None or filled not in {0, places}:
                return None
            known[path] = filled > 0
        return known

    def _values(self, group: int, leaf: int) -> int | None:
        """Return the number of values of a leaf in a row group, nulls not counted; None where it is not told."""
        with _damage_as_os_error():
            chunk = column_chunk(self._file, group, leaf)
        if chunk.physical_type != self._file.metadata.schema.column(leaf).physical_type:
            raise OSError("the footer tells two types of one column")  # its statistics would end the process
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count:
            return None
        return int(chunk.num_values - statistics.null_count)

    def _columns_of_bytes(self, group: int) -> dict[str, Any]:
        if self._last_bytes is None or self._last_bytes[0] != group:
            self._last_bytes = None
            self._last_bytes = (group, self._read(group, self._columns_with_bytes))
        return self._last_bytes[1]

    def _read(self, group: int, names: list[str]) -> dict[str, Any]:
        if not names:
            return {}
        with _damage_as_os_error():
            table: pa.Table = self._file.read_row_group(group, columns=names, use_threads=False)
            for chunk in (chunk for column in table.columns for chunk in column.chunks):
                check_array(chunk)
        if table.num_rows != self.rows_of_groups[group]:
            raise OSError(f"{table.num_rows:,} rows, where the footer tells {self.rows_of_groups[group]:,}")
        return {name: table[name] for name in table.schema.names}


@contextmanager
def _damage_as_os_error() -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        if not is_damage(error):
            raise
        raise OSError(str(error)) from error


def _check_rows(rows: int, file_bytes: int) -> None:
    """Raise pa.ArrowInvalid where the file is too small for its rows."""
    if not 0 <= rows <= _ROWS_A_BYTE * file_bytes:
        raise pa.ArrowInvalid(f"{rows:,} rows in a file of {file_bytes:,} bytes")

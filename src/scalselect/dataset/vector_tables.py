"""Vectors made elsewhere that lie in a Parquet table: one column of lists, or one column a dimension."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalselect.dataset.vector_arrays import (
    INSTRUCTION_REPRESENTATIONS,
    REPRESENTATIONS,
    VectorFile,
    check_dtype,
    check_shape,
    read_as,
)
from scalselect.errors import DatasetError
from scalselect.row_tables import ROWS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import IdType

# Columns that say something about a row and are no dimension of it, whatever numbers they hold.
_ABOUT_A_ROW = {*ROWS_SCHEMA.names, "leverage_score", "rank", "selected", "stratum", "__index_level_0__"}
_VALUES_AT_ONCE = 2**20
_BUFFER_BYTES = 2**16  # a column; without it whole row groups would be read at once
_WANTED = "wanted: one column of lists of floats, or one float column a dimension"


class TableVectors(VectorFile):
    """Vectors of a Parquet file.

    Reads every value once when it is opened, so that a short or missing vector is told before any work.

    Raises
    ------
    DatasetError
        If the table cannot be read, holds no vectors or more than one kind, or a vector is short or missing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with _opened(path) as file:
                self.rows = file.metadata.num_rows
                schema = file.schema_arrow
            vectors, instruction = _vector_columns(path, schema)
            self._columns, self._instruction = vectors, instruction
            read = {*vectors, *instruction, "id"}
            self.ignored = tuple(name for name in schema.names if name not in read)
            check_shape(path, (self.rows,))
            types = [_value_type(schema.field(name).type) for name in vectors]
            self.dtype = read_as(np.result_type(*[value.to_pandas_dtype() for value in types]))
            self.hidden = _checked_width(path, vectors)
            if instruction and _checked_width(path, instruction) != self.hidden:
                raise DatasetError(
                    f"both vectors of a row must have the same dimensions: {path}, columns {vectors[0]} and "
                    f"{instruction[0]}"
                )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise DatasetError(f"vectors cannot be read: {path} ({error}; {_WANTED})") from error
        self.has_instruction = bool(instruction)
        self._readers = {
            names: _ColumnReader(path, list(names))
            for names in (tuple(vectors), tuple(instruction), ("id",) if "id" in schema.names else ())
            if names
        }

    def ids(self, start: int, stop: int) -> list[tuple[str | None, IdType]]:
        """Return id and type of id of rows [start, stop), from the column `id` where there is one."""
        if ("id",) not in self._readers or start == stop:
            return super().ids(start, stop)
        values = self._readers["id",].read(start, stop)["id"].to_pylist()
        return [_identified(value) for value in values]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the vectors of rows [start, stop), float32 or float64 [stop - start, hidden]."""
        return self._matrix(self._columns, start, stop)

    def read_instruction(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return the second vectors of rows [start, stop), as `read` does; None where the file has none."""
        return self._matrix(self._instruction, start, stop) if self._instruction else None

    def _matrix(self, names: list[str], start: int, stop: int) -> NDArray[Any]:
        matrix = np.empty((stop - start, self.hidden), dtype=self.dtype)  # [rows, hidden]
        if start == stop:
            return matrix
        table = self._readers[tuple(names)].read(start, stop)
        if _is_list(table.schema.field(names[0]).type):
            place = 0
            for chunk in table[names[0]].chunks:
                values = chunk.flatten().to_numpy(zero_copy_only=False)
                matrix[place : place + len(chunk)] = values.reshape(len(chunk), self.hidden)
                place += len(chunk)
        else:
            for dimension, name in enumerate(names):
                matrix[:, dimension] = table[name].to_numpy()
        return matrix


class _ColumnReader:
    """Reads columns by range of rows; ranges that follow one another are read from one pass over the file."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names
        self._at = 0
        self._stream: Iterator[Any] = _batches(path, names)
        self._rest: Any = None  # of the batch that the last range ended in

    def read(self, start: int, stop: int) -> pa.Table:
        if start != self._at:
            self._seek(start)
        parts = []
        missing = stop - start
        while missing:
            batch = self._rest if self._rest is not None else next(self._stream)
            parts.append(batch.slice(0, missing))
            self._rest = batch.slice(missing) if batch.num_rows > missing else None
            missing -= parts[-1].num_rows
        self._at = stop
        return pa.Table.from_batches(parts)

    def _seek(self, start: int) -> None:
        """Begin at the row group that row `start` lies in."""
        with _opened(self._path) as file:
            lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(lengths)
        first = int(np.searchsorted(ends, start, side="right"))
        self._at = int(ends[first]) - lengths[first]
        self._stream, self._rest = _batches(self._path, self._names, range(first, len(lengths))), None
        if start > self._at:
            skipped = start - self._at
            while skipped:
                batch = next(self._stream)
                self._rest = batch.slice(skipped) if batch.num_rows > skipped else None
                skipped -= min(skipped, batch.num_rows)


def _opened(path: Path) -> Any:
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _batches(path: Path, names: list[str], groups: range | None = None) -> Iterator[Any]:
    """Yield the rows of columns in pieces of bounded size, in order."""
    with _opened(path) as file:
        size = max(_VALUES_AT_ONCE // _values_a_row(file, names), 1)
        yield from file.iter_batches(
            batch_size=size, row_groups=None if groups is None else list(groups), columns=names, use_threads=False
        )


def _values_a_row(file: Any, names: list[str]) -> int:
    if len(names) > 1:
        return len(names)
    first = next(file.iter_batches(1, columns=names, use_threads=False), None)
    if first is None or not _is_list(first.schema.types[0]) or not first.column(0).is_valid()[0].as_py():
        return 1
    return max(len(first.column(0)[0]), 1)


def _vector_columns(path: Path, schema: Any) -> tuple[list[str], list[str]]:
    """Return the columns that hold the vectors, and those of the second vectors. Raises DatasetError."""
    repeated = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if repeated:
        raise DatasetError(f"columns of the same name cannot be told apart: {path}, {', '.join(repeated)}")
    shown = ", ".join(f"{field.name} {field.type}" for field in schema)
    lists = [field.name for field in schema if _is_list(field.type) and field.name not in _ABOUT_A_ROW]
    if REPRESENTATIONS in schema.names:
        vectors = [REPRESENTATIONS]
    else:
        vectors = [name for name in lists if name != INSTRUCTION_REPRESENTATIONS]
        floats = [name for name in vectors if pa.types.is_floating(_value_type(schema.field(name).type))]
        vectors = floats or vectors  # other lists are no vectors, where there are vectors
        if len(vectors) > 1:
            raise DatasetError(
                f"several columns may be the vectors: {path} holds {shown}; name one of them `{REPRESENTATIONS}`"
            )
    if "id" in schema.names and not _is_id(schema.field("id").type):
        raise DatasetError(f"ids must be text or numbers: {path}, column id holds {schema.field('id').type}")
    instruction = [name for name in [INSTRUCTION_REPRESENTATIONS] if vectors and name in lists]
    if not vectors:
        vectors = [
            field.name
            for field in schema
            if field.name not in _ABOUT_A_ROW and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        ]
    if not vectors:
        raise DatasetError(f"no column holds vectors: {path} holds {shown or 'no column'} ({_WANTED})")
    for name in (*vectors, *instruction):
        value = _value_type(schema.field(name).type)
        if not pa.types.is_floating(value):
            raise DatasetError(
                f"vectors must be floating-point numbers: {path} holds {value} in column {name} ({_WANTED})"
            )
        check_dtype(path, np.dtype(value.to_pandas_dtype()))
    return vectors, instruction


def _checked_width(path: Path, names: list[str]) -> int:
    """Return the number of dimensions; raises DatasetError where a vector is missing, incomplete or short."""
    width = None
    row = 0
    for batch in _batches(path, names):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count:
                at = row + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
                raise DatasetError(f"vectors must be complete: {path}, column {name} is null in row {at}")
        if _is_list(batch.schema.types[0]):
            lengths = pc.list_value_length(batch.column(0)).to_numpy(zero_copy_only=False)  # [rows]
            width = int(lengths[0]) if width is None else width
            if (lengths != width).any():
                at = int(np.argmax(lengths != width))
                raise DatasetError(
                    f"vectors must all have as many dimensions: {path}, column {names[0]} has {width} in row 0 and "
                    f"{lengths[at]} in row {row + at}"
                )
            values = batch.column(0).flatten()
            if values.null_count:
                at = row + int(np.argmin(values.is_valid().to_numpy(zero_copy_only=False))) // max(width, 1)
                raise DatasetError(f"vectors must be complete: {path}, column {names[0]} holds a null in row {at}")
        row += batch.num_rows
    width = len(names) if width is None else width
    check_shape(path, (row, width))
    return width


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _value_type(kind: Any) -> Any:
    return kind.value_type if _is_list(kind) else kind


def _is_id(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(test(kind) for test in tests)


def _identified(value: str | float | None) -> tuple[str | None, IdType]:
    if value is None:
        return None, "null"
    return (value, "string") if isinstance(value, str) else (str(value), "number")

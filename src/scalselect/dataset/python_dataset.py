"""The records of a `datasets.Dataset` object, in the order in which it shows them, images undecoded.

The package `datasets` is never imported here: whoever has such an object has imported it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.dataset.data_files import DataFile
from scalselect.dataset.record_source import WrittenFile
from scalselect.dataset.table_rows import RowTexts
from scalselect.errors import DatasetError
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOOKED_AT = 100
_ROWS_AT_ONCE = 100  # as many as `datasets` writes in a row group where there are images


class DatasetLike(Protocol):
    """As much of a `datasets.Dataset` as is used."""

    @property
    def features(self) -> Any: ...  # noqa: D102  see the documentation of `datasets`

    @property
    def cache_files(self) -> list[dict[str, Any]]: ...  # noqa: D102

    def with_format(self, type: str | None) -> Any: ...  # noqa: A002, D102

    def __len__(self) -> int: ...


def is_of_datasets(data: object) -> bool:
    """Tell whether an object is one of the data sets of HF `datasets`, of whatever kind."""
    return _kind_of(data) is not None


class PythonDataset:
    """A `RecordSource` of a `datasets.Dataset`. Its own selection and order of rows hold; its format does not.

    Raises
    ------
    DatasetError
        It is another kind of data set (`DatasetDict`, `IterableDataset`), holds no rows, or two of its fields have the
        same name.
    """

    container = "dataset"
    title = "a datasets.Dataset"

    def __init__(self, dataset: Any) -> None:
        kind = _kind_of(dataset)
        if kind != "Dataset":
            raise DatasetError(f"data are a {kind}: {_ADVICE.get(str(kind), 'wanted: a datasets.Dataset')}")
        if not len(dataset):
            raise DatasetError("data hold no record: a datasets.Dataset of 0 rows")
        self._rows = dataset.with_format("arrow")  # as stored: nothing is decoded
        self._schema: pa.Schema = dataset.features.arrow_schema
        self._files = [DataFile(Path(file["filename"])) for file in dataset.cache_files]
        self._prepare()
        self._fingerprint: dict[str, str | int] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_texts"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def raw(self, row: int) -> bytes:
        """Return the row as a JSON object, `null` where that is not possible. Raises DataChangedError."""
        try:
            return self._texts.text(self._cells(row), {})
        except ValueError:
            return b"null"

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the bytes value `number` of a record, None where there is none. Raises DataChangedError."""
        values = self._texts.bytes_values(self._cells(row))
        return bytes(values[number].as_py()) if 0 <= number < len(values) else None

    def fault(self, row: int) -> str | None:
        """Return why a row could not be written as JSON, None where it could."""
        try:
            self._texts.text(self._cells(row), {})
        except ValueError as error:
            return f"cannot be written as JSON: {error}"
        return None

    def first_fault(self) -> str | None:
        """Return which of the first 100 rows could not be written as JSON, and why; None if all could."""
        faults = ((row, self.fault(row)) for row in range(min(len(self), _LOOKED_AT)))
        return next((f"record {row} {fault}" for row, fault in faults if fault is not None), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and `bytes` over the JSON and the images of all rows, and `records`: equal for equal rows."""
        if self._fingerprint is None:
            digest, size = hashlib.sha256(), 0
            for row in range(len(self)):
                cells = self._cells(row)
                for content in (self.raw(row), *(value.as_py() for value in self._texts.bytes_values(cells))):
                    digest.update(f"{len(content)}\n".encode() + content)
                    size += len(content)
            self._fingerprint = {"sha256": digest.hexdigest(), "bytes": size, "records": len(self)}
        return self._fingerprint

    def check_unchanged(self) -> None:
        """Raise DataChangedError where a file that the data set lies in is no longer the same."""
        for file in self._files:
            file.check_unchanged()

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some rows as a Parquet file with the features of the data set; see `RecordSource.write`."""
        path = target.with_name(f"{target.name}.parquet")
        with publish_stream(path) as stream, pq.ParquetWriter(stream, self._schema) as writer:
            for table in self._tables(rows):
                writer.write_table(table)
        return [WrittenFile(path, len(rows))]

    def _tables(self, rows: Sequence[int]) -> Iterator[pa.Table]:
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            yield self._rows[list(rows[begin : begin + _ROWS_AT_ONCE])].cast(self._schema)

    def _cells(self, row: int) -> dict[str, Any]:
        table = self._rows[row]
        return {name: table.column(place)[0] for place, name in enumerate(table.schema.names)}

    def _prepare(self) -> None:
        self._texts = RowTexts(self._schema, "a datasets.Dataset")


_ADVICE = {
    "DatasetDict": 'wanted: one of its splits, such as `data["train"]`',
    "IterableDataset": "its rows cannot be read twice in any order (wanted: a datasets.Dataset, loaded without "
    "`streaming=True`)",
    "IterableDatasetDict": "its rows cannot be read twice in any order (wanted: one of its splits, loaded without "
    "`streaming=True`)",
}


def _kind_of(data: object) -> str | None:
    """Return the name of the class of `datasets` that an object is of, None where it is none of its data sets."""
    kinds = {"Dataset", *_ADVICE}
    classes = type(data).__mro__
    return next(
        (kind.__name__ for kind in classes if kind.__module__.split(".")[0] == "datasets" and kind.__name__ in kinds),
        None,
    )

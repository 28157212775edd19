"""The records of one or several files of tables, one after the other."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scalselect.dataset.data_files import fingerprint_of
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DatasetError, SampleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.dataset.data_files import DataFile

_LOOKED_AT = 100


class TableFile(Protocol):
    """The rows of one file. Picklable: an open file stays behind."""

    @property
    def file(self) -> DataFile:
        """The file as it was opened."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def text(self, row: int) -> bytes:
        """Return a row as JSON. Raises ValueError where a value has no JSON; SampleError; DataChangedError."""
        ...

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return a bytes value of a row by its number in `text`, None where there is none. Raises DataChangedError."""
        ...

    def write(self, rows: Sequence[int], path: Path) -> None:
        """Write some rows, ascending, as a file of the same kind and schema."""
        ...

    def release(self) -> None:
        """Close the file until it is needed again, where that is worth while."""
        ...


class TableRecords:
    """A `RecordSource` of table files.

    Parameters
    ----------
    container, title
        See `RecordSource`.
    ending
        Of the name of a written file, such as `.parquet`.

    Raises
    ------
    DatasetError
        The files hold no row.
    """

    def __init__(self, tables: Sequence[TableFile], *, container: str, title: str, ending: str) -> None:
        self.container, self.title, self._ending = container, title, ending
        self.tables = tuple(tables)
        self._open = 0  # number of the one file that may be open
        self._bounds = list(accumulate((table.rows for table in tables), initial=0))  # [files + 1]
        if not len(self):
            raise DatasetError(f"data hold no record: {self._where()}")

    def __len__(self) -> int:
        return self._bounds[-1]

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [table.file.path for table in self.tables]

    def raw(self, row: int) -> bytes:
        """Return the row as a JSON object, `null` where that is not possible. Raises DataChangedError."""
        table, within = self._place(row)
        try:
            return table.text(within)
        except (ValueError, SampleError):
            return b"null"

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the bytes value `number` of a record. Raises DataChangedError."""
        table, within = self._place(row)
        return table.embedded(within, number)

    def fault(self, row: int) -> str | None:
        """Return why a row could not be written as JSON, or cannot be used; None where it can."""
        table, within = self._place(row)
        try:
            table.text(within)
        except SampleError as error:
            return error.detail
        except ValueError as error:
            return f"cannot be written as JSON: {error}"
        return None

    def first_fault(self) -> str | None:
        """Return which of the first 100 rows could not be written as JSON, and why; None if all could."""
        faults = ((row, self.fault(row)) for row in range(min(len(self), _LOOKED_AT)))
        return next((f"record {row} {fault}" for row, fault in faults if fault is not None), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and `bytes` of the file or files, and `records`. Raises DataChangedError."""
        return fingerprint_of([table.file for table in self.tables], len(self))

    def check_unchanged(self) -> None:
        """Raise DataChangedError where a file is no longer the one that was opened."""
        for table in self.tables:
            table.file.check_unchanged()

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records with schema and metadata; of several files one each, of the same name, in a folder."""
        if len(self.tables) == 1:
            path = target.with_name(target.name + self._ending)
            self.tables[0].write(rows, path)
            return [WrittenFile(path, len(rows))]
        root = Path(os.path.commonpath([table.file.path.parent for table in self.tables]))
        return self.write_files(rows, target, root)

    def write_files(self, rows: Sequence[int], target: Path, root: Path) -> list[WrittenFile]:
        """Write some records into the folder `target`, a file for each, named as it is below `root`."""
        written = []
        for number, table in enumerate(self.tables):
            begin, end = self._bounds[number : number + 2]
            of_table = [row - begin for row in rows[bisect_left(rows, begin) : bisect_left(rows, end)]]
            path = target / table.file.path.relative_to(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            table.write(of_table, path)
            written.append(WrittenFile(path, len(of_table)))
        return written

    def _place(self, row: int) -> tuple[TableFile, int]:
        number = bisect_right(self._bounds, row) - 1
        if number != self._open:  # of thousands of files, few may be open at once
            self.tables[self._open].release()
            self._open = number
        return self.tables[number], row - self._bounds[number]

    def _where(self) -> str:
        return ", ".join(str(table.file.path) for table in self.tables[:3])

"""What every container of records can do: the door between a pool and the files its records lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file of a written subset.

    Attributes
    ----------
    path
        The file.
    records
        Number of chosen records in it; the records of several files follow one another. 0 for a file that only
        describes others.
    """

    path: Path
    records: int


class RecordSource(Protocol):
    """The records of one data set, by position. Picklable: paths and offsets travel, open files do not.

    Image bytes that lie in the container, and not in the JSON text of a record, stand in that text as
    ``{"bytes": {"embedded": n}, "path": name or null}``, n counting them within the record from 0; `embedded` returns
    them.

    Attributes
    ----------
    container
        Name of the container: `json`, `jsonl`, `json.gz`, `jsonl.gz`, `parquet`, `arrow`, `saved`, `tar`, `dataset` or
        `list`.
    title
        The container in words, for example `a JSON array`.
    """

    @property
    def container(self) -> str: ...  # noqa: D102  see the class

    @property
    def title(self) -> str: ...  # noqa: D102  see the class

    def __len__(self) -> int: ...

    def raw(self, row: int) -> bytes:
        """Return the record as JSON in UTF-8, in a JSON file its own bytes. Raises DataChangedError."""
        ...

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the image bytes `number` of a record, None where the container has a null or nothing there."""
        ...

    def fault(self, row: int) -> str | None:
        """Return why a record could not be written as JSON, None where it could."""
        ...

    def first_fault(self) -> str | None:
        """Return which record is the first that could not be written as JSON, and why; None if all could."""
        ...

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and `bytes` of the data as they were opened, and `records`, their number."""
        ...

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the data are no longer those that were opened."""
        ...

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records, in their own container and as they were, and return the files in order.

        Parameters
        ----------
        rows
            Positions, ascending, each once; may be empty.
        target
            Path without ending: a container that is one file adds its own (`selected.json`), one of several files
            makes a folder of that name.

        Raises
        ------
        OSError
            As the file system raises it; a file is published whole or not at all.
        """
        ...

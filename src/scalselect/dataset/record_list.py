"""Records given as a Python list, each encoded once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scalselect.dataset.json_writing import write_json_records
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DatasetError
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class RecordList:
    """Records given as a Python list: each is encoded once, and what cannot be is remembered as the row's fault.

    Paths are written as their text, NumPy's and other scalars with an `item` method as the Python value they hold.

    Raises
    ------
    DatasetError
        The list is empty.
    """

    container = "list"
    title = "a Python list"

    def __init__(self, records: Sequence[Mapping[str, object]]) -> None:
        self._faults: dict[int, str] = {}
        self._encoded = [self._encode(row, record) for row, record in enumerate(records)]
        if not self._encoded:
            raise DatasetError("list of records is empty: [] (wanted: at least one record)")

    def __len__(self) -> int:
        return len(self._encoded)

    def raw(self, row: int) -> bytes:
        """Return the record as JSON in UTF-8; `null` where it could not be written as JSON."""
        return self._encoded[row]

    def embedded(self, row: int, number: int) -> bytes | None:  # noqa: ARG002  JSON has no bytes beside its text
        """Return None: the records are encoded as JSON."""
        return None

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records as a JSON array; see `RecordSource.write`."""
        path = target.with_name(f"{target.name}.json")
        with publish_stream(path) as stream:
            write_json_records(stream, self.raw, rows, lines=False)
        return [WrittenFile(path, len(rows))]

    def fault(self, row: int) -> str | None:
        """Return why the record could not be written as JSON, None if it could."""
        return self._faults.get(row)

    def first_fault(self) -> str | None:
        """Return which record is the first that could not be written as JSON, and why; None if all could."""
        return next((f"record {row} {fault}" for row, fault in self._faults.items()), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 over the encoded records with a line feed after each, their size and number."""
        digest = hashlib.sha256()
        for encoded in self._encoded:
            digest.update(encoded + b"\n")
        return {"sha256": digest.hexdigest(), "bytes": sum(map(len, self._encoded)), "records": len(self)}

    def check_unchanged(self) -> None:
        """Do nothing: the records were encoded once, and stay."""

    def _encode(self, row: int, record: object) -> bytes:
        plain = dict(record) if isinstance(record, Mapping) else record
        try:
            try:
                return json.dumps(plain, ensure_ascii=False, default=_as_plain).encode()
            except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
                return json.dumps(plain, default=_as_plain).encode()
        except (TypeError, ValueError, RecursionError) as error:
            self._faults[row] = f"cannot be written as JSON: {error}"
            return b"null"


def _as_plain(value: object) -> Any:
    """Return what `json` can write for a path or a scalar. Raises TypeError for anything else."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

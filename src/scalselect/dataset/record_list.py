"""Records given as a Python list, each encoded once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scalselect.dataset.json_writing import write_json_records
from scalselect.dataset.list_images import bytes_of, digest_of, holds_image, with_images, without_images
from scalselect.dataset.record_source import WrittenFile
from scalselect.errors import DatasetError
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scalselect.dataset.list_images import Embedded


class RecordList:
    """Records given as a Python list: each is encoded once, and what cannot be is remembered as the row's fault.

    Paths are written as their text, NumPy's and other scalars with an `item` method as the Python value they hold.
    Bytes and Pillow's pictures stay where they are; in the record stands their place, see `RecordSource`.

    Raises
    ------
    DatasetError
        The list is empty.
    """

    container = "list"
    title = "a Python list"

    def __init__(self, records: Sequence[Mapping[str, object]]) -> None:
        self._faults: dict[int, str] = {}
        self._images: dict[int, list[Embedded]] = {}  # of the records that hold any
        self._encoded = [self._encode(row, record) for row, record in enumerate(records)]
        if not self._encoded:
            raise DatasetError("list of records is empty: [] (wanted: at least one record)")

    def __len__(self) -> int:
        return len(self._encoded)

    def raw(self, row: int) -> bytes:
        """Return the record as JSON in UTF-8; `null` where it could not be written as JSON."""
        return self._encoded[row]

    def embedded(self, row: int, number: int) -> bytes | None:
        """Return the bytes of an image of a record, None where there is none. Raises SampleError: a broken picture."""
        images = self._images.get(row, [])
        return bytes_of(images[number]) if number < len(images) else None

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records as a JSON array, images as base64; see `RecordSource.write`."""
        path = target.with_name(f"{target.name}.json")
        with publish_stream(path) as stream:
            write_json_records(stream, map(self._written, rows), lines=False)
        return [WrittenFile(path, len(rows))]

    def fault(self, row: int) -> str | None:
        """Return why the record could not be written as JSON, None if it could."""
        return self._faults.get(row)

    def first_fault(self) -> str | None:
        """Return which record is the first that could not be written as JSON, and why; None if all could."""
        return next((f"record {row} {fault}" for row, fault in self._faults.items()), None)

    def fingerprint(self) -> dict[str, str | int]:
        """Return SHA-256 over the encoded records with a line feed after each and their images, size and number."""
        digest = hashlib.sha256()
        for row, encoded in enumerate(self._encoded):
            digest.update(encoded + b"\n")
            for image in self._images.get(row, []):
                digest.update(digest_of(image))
        return {"sha256": digest.hexdigest(), "bytes": sum(map(len, self._encoded)), "records": len(self)}

    def check_unchanged(self) -> None:
        """Do nothing: the records were encoded once, and stay."""

    def _encode(self, row: int, record: object) -> bytes:
        try:
            plain = dict(record) if isinstance(record, Mapping) else record
            try:
                return _as_json(plain)
            except _HoldsImageError:
                images: list[Embedded] = []
                encoded = _as_json(without_images(plain, images))
                self._images[row] = images
                return encoded
        except (TypeError, ValueError, RecursionError) as error:
            self._faults[row] = f"cannot be written as JSON: {error}"
            return b"null"

    def _written(self, row: int) -> bytes:
        if row not in self._images:
            return self.raw(row)
        return _as_json(with_images(json.loads(self.raw(row)), self._images[row]))


class _HoldsImageError(Exception):
    """A record holds bytes or a picture."""


def _as_json(plain: object) -> bytes:
    try:
        return json.dumps(plain, ensure_ascii=False, default=_as_plain).encode()
    except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
        return json.dumps(plain, default=_as_plain).encode()


def _as_plain(value: object) -> Any:
    """Return what `json` can write for a path or a scalar. Raises TypeError for anything else but images."""
    if holds_image(value):
        raise _HoldsImageError
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

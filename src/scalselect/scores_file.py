"""`scores.parquet` on disk: one line for every pool row, sealed, vouching for the files that were written with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.local_copies import local_file
from scalselect.representation_store import METADATA_KEY
from scalselect.row_tables import table_bytes, table_from_bytes
from scalselect.seals import BLANK, SEAL_KEY, is_whole, sealed
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCORES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("id_type", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("leverage_score", pa.float64()),
        pa.field("rank", pa.int64()),
        pa.field("selected", pa.bool_()),
        pa.field("stratum", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Scores:
    """What `scores.parquet` holds.

    Attributes
    ----------
    content
        The bytes of the file.
    inputs
        What the scores were made from.
    files
        Sha256 of the files that were written with them, by name.
    """

    content: bytes
    inputs: dict[str, Any]
    files: dict[str, str]

    @property
    def table(self) -> pa.Table:
        """A table of `SCORES_SCHEMA`."""
        return table_from_bytes(self.content)


def write_scores(path: Path, table: pa.Table, inputs: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write the scores; equal ones are equal bytes. See `Scores` for the parameters."""
    # One key: several would be written in random order.
    facts = {"files": files, "inputs": inputs, SEAL_KEY: BLANK}
    metadata = {METADATA_KEY: json.dumps(facts, sort_keys=True)}
    publish_bytes(path, sealed(table_bytes(table.replace_schema_metadata(metadata))))


def read_scores(path: Path) -> Scores | None:
    """Return the scores as written; None where they are not what was written. Raises FileNotFoundError."""
    content = path.read_bytes()
    if not is_whole(content):
        return None
    facts = json.loads(pq.read_schema(pa.BufferReader(content)).metadata[METADATA_KEY.encode()])
    return Scores(content, facts["inputs"], facts["files"])


def scores_made_from(path: Path) -> dict[str, Any] | None:
    """Return what the scores of a file were made from, read from its foot alone and not held against anything."""
    try:
        with local_file(path) as local:
            metadata = pq.read_schema(local).metadata or {}
        inputs: dict[str, Any] | None = json.loads(metadata[METADATA_KEY.encode()])["inputs"]
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    return inputs

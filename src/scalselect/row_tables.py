"""What is known of each pool row as a table, and tables as the bytes of Parquet files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.records import RowRecord

ROWS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("id_type", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("turns", pa.int32(), nullable=False),
        pa.field("images", pa.int32(), nullable=False),
        pa.field("image_sha256", pa.list_(pa.string()), nullable=False),
        pa.field("image_bytes", pa.list_(pa.int64()), nullable=False),
        pa.field("text_sha256", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("vision_tokens", pa.int32()),
        pa.field("kept_tokens", pa.int32()),
        pa.field("cut_margin", pa.float64()),
        pa.field("uniform", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("escaped", pa.int32(), nullable=False),
        pa.field("images_in_front", pa.bool_(), nullable=False),
        pa.field("exif_rotated", pa.bool_(), nullable=False),
        pa.field("alpha", pa.bool_(), nullable=False),
    ]
)


def table_of_rows(records: Sequence[RowRecord]) -> pa.Table:
    """Return one line of `ROWS_SCHEMA` for every record."""
    identity = {"row", "source", "id", "id_type"}
    columns: dict[str, list[Any]] = {
        name: [getattr(record.identity if name in identity else record, name) for record in records]
        for name in ROWS_SCHEMA.names
    }
    columns["reason"] = [None if reason is None else str(reason) for reason in columns["reason"]]
    return pa.table(columns, schema=ROWS_SCHEMA)


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def table_from_bytes(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table of a Parquet file, or some of its columns. Raises pyarrow.ArrowInvalid.

    Arrow's own threads stay out of it: one that lets go of the last reference to a Python buffer while the
    interpreter shuts down aborts the process.
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True)
    return file.read(columns=columns, use_threads=False)

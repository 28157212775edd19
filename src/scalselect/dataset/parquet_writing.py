"""Some rows of a Parquet file written as another one, with the same schema, metadata and way of storing columns."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.dataset.parquet_chunks import column_chunk
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_TAKEN_AT_ONCE = 256  # rows: the bytes of so many images stay below what one Arrow array can hold
_CODECS = {"SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd", "LZ4": "lz4", "LZ4_RAW": "lz4"}


def write_parquet_rows(source: Path, rows: Sequence[int], path: Path) -> None:
    """Write rows of `source`, ascending, as the file `path`, published whole.

    One row group of the source is read at a time, and row groups of about its size are written. Columns keep their
    compression and whether they have a dictionary.

    Raises
    ------
    OSError
        As the file system raises it, or where the source is damaged.
    """
    try:
        with (
            pq.ParquetFile(source) as file,
            publish_stream(path) as stream,
            pq.ParquetWriter(stream, file.schema_arrow, **_storing_of(file)) as writer,
        ):
            for table in _gathered(_chosen(file, rows), file.metadata):
                writer.write_table(table, row_group_size=max(1, table.num_rows))
    except pa.ArrowInvalid as error:
        raise OSError(f"chosen rows cannot be copied from {source}: {error}") from error


def _chosen(file: pq.ParquetFile, rows: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the chosen rows, row group by row group, as tables of their own memory."""
    begins = [0]
    for group in range(file.metadata.num_row_groups):
        begins.append(begins[-1] + file.metadata.row_group(group).num_rows)
    place = 0
    for group, (begin, end) in enumerate(pairwise(begins)):
        first = place
        while place < len(rows) and rows[place] < end:
            place += 1
        if first == place:
            continue
        table = file.read_row_group(group, use_threads=False)
        within = [row - begin for row in rows[first:place]]
        for start in range(0, len(within), _TAKEN_AT_ONCE):
            yield table.take(pa.array(within[start : start + _TAKEN_AT_ONCE], pa.int64()))


def _gathered(tables: Iterator[pa.Table], metadata: Any) -> Iterator[pa.Table]:
    """Yield tables of about the size of the source's largest row group, in rows or in bytes, whichever comes first."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    most_rows = max((group.num_rows for group in groups), default=1)
    most_bytes = max((group.total_byte_size for group in groups), default=1)
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= most_rows or sum(part.nbytes for part in waiting) >= most_bytes:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _storing_of(file: pq.ParquetFile) -> dict[str, Any]:
    """Return how the columns of a file are stored, as options of a writer: those of the first whole row group."""
    leaves = range(file.metadata.num_columns)
    for group in range(file.metadata.num_row_groups):
        try:
            chunks = [column_chunk(file, group, leaf) for leaf in leaves]
        except (OSError, pa.ArrowException):  # no chosen row lies there
            continue
        codecs = {chunk.path_in_schema: _CODECS.get(chunk.compression, "none") for chunk in chunks}
        with_dictionary = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
        return {"compression": codecs, "use_dictionary": with_dictionary or False}
    return {}

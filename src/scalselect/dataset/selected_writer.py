"""The chosen records back out, byte for byte, in each source's own format and order."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.row_tables import table_bytes
from scalselect.storage import publish_bytes, publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool

_PIECE_ROWS = 8192  # rows looked at together
SELECTED_ROWS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("id_type", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
    ]
)


def write_selected(pool: Pool | JoinedPool, rows: Sequence[int] | NDArray[np.int64], folder: Path) -> list[Path]:
    """Write the records of `rows` and return the paths of the files written.

    Of one source, they are written as `selected.json` or `selected.jsonl` in `folder`; of several, as
    `selected/<source>.json` or `.jsonl`, one file for each, even where none of its rows was chosen, and last
    `selected/rows.parquet`, which tells for every chosen row its file and its place in it, from 0.

    Parameters
    ----------
    rows
        Row positions, ascending, each once.

    Raises
    ------
    ValueError
        Rows are out of order, repeated, or outside the pool; nothing is written.
    OSError
        As the file system raises it; a file is published whole or not at all.
    """
    joined = pool if isinstance(pool, JoinedPool) else JoinedPool([pool])
    positions = [int(row) for row in rows]
    if any(before >= after for before, after in pairwise(positions)):
        raise ValueError("rows must be ascending, each once")
    if positions and not (positions[0] in joined.rows and positions[-1] in joined.rows):
        raise ValueError(f"rows {positions[0]} to {positions[-1]} do not lie in a pool of {len(joined)}")
    if len(joined.parts) == 1:
        path = folder / f"selected.{joined.parts[0].container}"
        _write_records(joined, positions, path, joined.parts[0].container)
        return [path]
    folder /= "selected"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    tables = [SELECTED_ROWS_SCHEMA.empty_table()]
    for number, part in enumerate(joined.parts):
        span = joined.rows_of(number)
        of_part = positions[bisect_left(positions, span.start) : bisect_left(positions, span.stop)]
        path = folder / f"{part.source}.{part.container}"
        _write_records(joined, of_part, path, part.container)
        tables += _tables_of_places(joined, of_part, path.name)
        written.append(path)
    path = folder / "rows.parquet"
    publish_bytes(path, table_bytes(pa.concat_tables(tables).combine_chunks()))
    return [*written, path]


def _write_records(pool: JoinedPool, rows: Sequence[int], path: Path, container: str) -> None:
    lines = container == "jsonl"
    with publish_stream(path) as stream:
        stream.write(b"" if lines else b"[\n")
        for number, row in enumerate(rows, start=1):
            stream.write(pool.raw(row))
            stream.write(b"\n" if lines or number == len(rows) else b",\n")
        stream.write(b"" if lines else b"]\n")


def _tables_of_places(pool: JoinedPool, rows: Sequence[int], file: str) -> Iterator[pa.Table]:
    """Yield which rows the records of a file are, in order, a piece at a time: Arrow holds them in far less memory."""
    for begin in range(0, len(rows), _PIECE_ROWS):
        identities = [pool.identity(row) for row in rows[begin : begin + _PIECE_ROWS]]
        columns = {
            name: [getattr(identity, name) for identity in identities] for name in ("row", "source", "id", "id_type")
        }
        places = list(range(begin, begin + len(identities)))
        yield pa.table({**columns, "file": [file] * len(places), "place": places}, schema=SELECTED_ROWS_SCHEMA)

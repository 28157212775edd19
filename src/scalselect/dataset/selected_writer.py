"""The chosen records back out, byte for byte, in each source's own format and order."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.row_tables import table_bytes
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool
    from scalselect.dataset.record_source import WrittenFile

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

    Of one source that is one file, they are written as `selected.<ext>` in `folder`; of several as
    `selected/<source>.<ext>`, one file for each, even where none of its rows was chosen. A source of several files
    becomes a folder of several, `selected/` or `selected/<source>/`. Where there is more than one file, the last one
    returned tells for every chosen row its file in `selected/` and its place in it, from 0: `selected/rows.parquet` of
    several sources, `selected_rows.parquet` of one, whose folder holds its data and nothing else.

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
    listing = folder / "selected_rows.parquet"
    if len(joined.parts) == 1:
        written = joined.parts[0].write([row - joined.rows.start for row in positions], folder / "selected")
        if len(written) == 1:
            return [written[0].path]
        listed = [*zip(written, _cut(positions, written), strict=True)]
    else:
        (folder / "selected").mkdir(parents=True, exist_ok=True)
        listed = []
        for number, part in enumerate(joined.parts):
            span = joined.rows_of(number)
            of_part = positions[bisect_left(positions, span.start) : bisect_left(positions, span.stop)]
            written = part.write([row - span.start for row in of_part], folder / "selected" / part.source)
            listed += zip(written, _cut(of_part, written), strict=True)
        among = folder / "selected" / "rows.parquet"
        if all(file.path != among for file, _ in listed):  # a run of `rows.parquet` alone may have been extended
            listing = among
    tables = [SELECTED_ROWS_SCHEMA.empty_table()]
    for file, of_file in listed:
        tables += _tables_of_places(joined, of_file, file.path.relative_to(folder / "selected").as_posix())
    publish_bytes(listing, table_bytes(pa.concat_tables(tables).combine_chunks()))
    return [*(file.path for file, _ in listed), listing]


def _cut(rows: Sequence[int], written: Sequence[WrittenFile]) -> Iterator[Sequence[int]]:
    """Yield the rows whose records each file holds."""
    begin = 0
    for file in written:
        yield rows[begin : begin + file.records]
        begin += file.records


def _tables_of_places(pool: JoinedPool, rows: Sequence[int], file: str) -> Iterator[pa.Table]:
    """Yield which rows the records of a file are, in order, a piece at a time: Arrow holds them in far less memory."""
    for begin in range(0, len(rows), _PIECE_ROWS):
        identities = [pool.identity(row) for row in rows[begin : begin + _PIECE_ROWS]]
        columns = {
            name: [getattr(identity, name) for identity in identities] for name in ("row", "source", "id", "id_type")
        }
        places = list(range(begin, begin + len(identities)))
        yield pa.table({**columns, "file": [file] * len(places), "place": places}, schema=SELECTED_ROWS_SCHEMA)

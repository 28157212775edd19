"""The chosen records back out, byte for byte, in the source's own format and order."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool


def write_selected(pool: Pool, rows: Sequence[int] | NDArray[np.int64], folder: Path) -> Path:
    """Write the records of `rows` as `selected.json` or `selected.jsonl` in `folder`, and return the file's path.

    Parameters
    ----------
    rows
        Row positions, ascending, each once.

    Raises
    ------
    ValueError
        Rows are out of order, repeated, or outside the pool; nothing is written.
    OSError
        As the file system raises it; nothing is published.
    """
    positions = [int(row) for row in rows]
    if any(before >= after for before, after in pairwise(positions)):
        raise ValueError("rows must be ascending, each once")
    if positions and not 0 <= positions[0] <= positions[-1] < len(pool):
        raise ValueError(f"rows {positions[0]} to {positions[-1]} do not lie in a pool of {len(pool)}")
    lines = pool.container == "jsonl"
    path = folder / ("selected.jsonl" if lines else "selected.json")
    with publish_stream(path) as stream:
        stream.write(b"" if lines else b"[\n")
        for number, row in enumerate(positions, start=1):
            stream.write(pool.raw(row))
            stream.write(b"\n" if lines or number == len(positions) else b",\n")
        stream.write(b"" if lines else b"]\n")
    return path

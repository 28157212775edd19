"""JSON records written out with the bytes they had, as an array or as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import BufferedIOBase
    from typing import IO


_AT_ONCE = 512  # records


def write_json_records(
    stream: IO[bytes] | BufferedIOBase,
    texts: Callable[[Sequence[int]], Sequence[bytes]],
    rows: Sequence[int],
    *,
    lines: bool,
) -> None:
    """Write the records of some rows to a stream.

    Parameters
    ----------
    texts
        Returns the bytes of some records, in the order given.
    rows
        Which records, in order.
    lines
        One record on each line; else an array, each record beginning a line.
    """
    between = b"\n" if lines else b",\n"
    stream.write(b"" if lines else b"[\n")
    for start in range(0, len(rows), _AT_ONCE):
        stream.write(between if start else b"")
        stream.write(between.join(texts(rows[start : start + _AT_ONCE])))
    stream.write(b"\n" if len(rows) > 0 else b"")
    stream.write(b"" if lines else b"]\n")

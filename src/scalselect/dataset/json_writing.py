"""JSON records written out with the bytes they had, as an array or as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import BufferedIOBase
    from typing import IO


def write_json_records(
    stream: IO[bytes] | BufferedIOBase, raw: Callable[[int], bytes], rows: Sequence[int], *, lines: bool
) -> None:
    """Write the records of some rows to a stream.

    Parameters
    ----------
    raw
        Returns the bytes of a record.
    rows
        Which records, in order.
    lines
        One record on each line; else an array, each record beginning a line.
    """
    stream.write(b"" if lines else b"[\n")
    for number, row in enumerate(rows, start=1):
        stream.write(raw(row))
        stream.write(b"\n" if lines or number == len(rows) else b",\n")
    stream.write(b"" if lines else b"]\n")

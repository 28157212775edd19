"""JSON records written out with the bytes they had, as an array or as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedIOBase
    from typing import IO

_PIECE = 1 << 20  # bytes written at once


def write_json_records(stream: IO[bytes] | BufferedIOBase, texts: Iterable[bytes], *, lines: bool) -> None:
    """Write records to a stream.

    Parameters
    ----------
    texts
        The bytes of the records, in order.
    lines
        One record on each line; else an array, each record beginning a line.
    """
    pieces = [b"" if lines else b"[\n"]
    size, separator = 0, b""
    for text in texts:
        pieces += (separator, text)
        separator = b"\n" if lines else b",\n"
        size += len(text)
        if size > _PIECE:
            stream.write(b"".join(pieces))
            pieces.clear()
            size = 0
    pieces += (b"\n" if separator else b"", b"" if lines else b"]\n")
    stream.write(b"".join(pieces))

"""Where the records of a mapped JSON array or JSON Lines file begin and end, in bytes."""

from __future__ import annotations

import codecs
import re
from array import array
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from scalselect.dataset.data_files import CONTAINERS_READ
from scalselect.dataset.json_scanner import BrokenJsonError, array_bounds, check_value, end_of_value, skip_space
from scalselect.dataset.record_fields import key_of_records
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

Container = Literal["json", "jsonl"]

WANTED = "wanted: a JSON array of records such as `[{...}, {...}]`, or JSON Lines with one record on each line"
_SEPARATOR = re.compile(rb"[ \t\n\r]*+,?+[ \t\n\r]*+")
_LINE_SPACE = b" \t\r"
_WHITE_SPACE = np.frombuffer(b" \t\n\r", np.uint8)
_SPACED = np.isin(np.arange(256), np.frombuffer(_LINE_SPACE, np.uint8))  # [256]; whether a byte is such space
_CARRIAGE_RETURN = ord("\r")
_LINES_LOOKED_AT = 100
_SHOWN_BYTES = 24
_COUNTED_AT_ONCE = 1 << 24


def recognise(data: mmap.mmap, start: int, path: Path) -> Container:
    """Return what the file holds, by looking at its first records. Raises DatasetError where it is neither."""
    if data[start : start + 1] == b"[":
        return "json"
    lines = list(islice(_line_bounds(data, start), _LINES_LOOKED_AT))
    if _is_object(data[slice(*lines[0])]):
        return "jsonl"
    spread = DatasetError(f"data file holds one JSON object spread over several lines: {path} ({WANTED})")
    if data[start : start + 1] == b"{":
        try:
            stop = end_of_value(data, start)
        except BrokenJsonError:  # so this is a broken line, or a broken object
            pass
        else:
            if stop > lines[0][1]:
                raise _around_records(data, start, stop, path) or spread
    # A broken first line of JSON Lines is a bad row. The lines of a printed object are indented or end in a comma.
    if any(data[first - 1 : first] == b"\n" and _is_object(data[first:last]) for first, last in lines[1:]):
        return "jsonl"
    if data[start : start + 1] == b"{" and len(lines) > 1:
        raise spread
    raise _no_json(data, start, path)


def _no_json(data: mmap.mmap, start: int, path: Path) -> DatasetError:
    if path.suffix.lower() in {".csv", ".tsv"}:
        return DatasetError(f"{path.suffix[1:].upper()} is not read: {path} (wanted: {CONTAINERS_READ})")
    return DatasetError(
        f"data file is neither a JSON array nor JSON Lines, nor any other kind that is read: {path} begins with "
        f"{_text_at(data, start)} (wanted: {CONTAINERS_READ})"
    )


def _around_records(data: mmap.mmap, start: int, stop: int, path: Path) -> DatasetError | None:
    """Return what to raise where a list of records lies under a key of an object."""
    try:
        key = key_of_records(msgspec.json.decode(memoryview(data)[start:stop], type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, ValueError, RecursionError):  # among them keys that are no UTF-8
        return None
    told = f"data file holds its records in a list under `{key}`: {path} (save that list alone)"
    return None if key is None else DatasetError(told)


def _is_object(line: bytes) -> bool:
    try:
        check_value(line, 0)
    except BrokenJsonError:
        return False
    return line.startswith(b"{")


def array_offsets(data: mmap.mmap, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and stop of every record of an array, int64 [records] each. Raises BrokenJsonError."""
    try:
        return _decoded_bounds(data, start)
    except (msgspec.MsgspecError, RecursionError):  # NaN and the like, or really broken
        return _as_arrays(array_bounds(data, start))


def _decoded_bounds(data: mmap.mmap, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    records = msgspec.json.decode(memoryview(data)[start:], type=list[msgspec.Raw])
    lengths = np.fromiter(map(len, records), np.int64, len(records))  # [records]
    del records  # a hundred bytes each
    first = skip_space(data, start + 1)
    return _evenly_separated(data, first, lengths) or _as_arrays(_separated(data, first, lengths))


def _evenly_separated(
    data: mmap.mmap, first: int, lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the bounds of records between which the same bytes stand everywhere, as writers do; None if they do not.

    If the bytes after a record are that separator and no white space follows it, the next record begins there; so by
    induction all do.
    """
    if not lengths.size:
        return lengths, lengths
    found = _SEPARATOR.match(data, first + int(lengths[0]))
    separator = b"" if found is None else found.group()
    starts = first + np.concatenate([[0], np.cumsum(lengths[:-1] + len(separator))])  # [records]
    stops = starts + lengths
    if stops[-1] > len(data):
        return None
    content = np.frombuffer(data, np.uint8)
    if any((content[stops[:-1] + place] != byte).any() for place, byte in enumerate(separator)):
        return None
    return None if np.isin(content[starts], _WHITE_SPACE).any() else (starts, stops)


def _separated(data: mmap.mmap, first: int, lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    for length in lengths.tolist():
        stop = first + length
        yield first, stop
        separator = _SEPARATOR.match(data, stop)
        first = stop if separator is None else separator.end()


def line_offsets(data: mmap.mmap, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and stop of every line that is not blank, int64 [records] each, less the white space at its ends."""
    feeds = array("q")
    position = data.find(b"\n", start)
    while position >= 0:
        feeds.append(position)
        position = data.find(b"\n", position + 1)
    stops = np.append(np.frombuffer(feeds, np.int64), len(data))  # [lines]
    starts = np.concatenate([[start], stops[:-1] + 1])
    content = np.frombuffer(data, np.uint8)
    filled = np.flatnonzero(starts < stops)
    stops[filled[content[stops[filled] - 1] == _CARRIAGE_RETURN]] -= 1
    filled = filled[starts[filled] < stops[filled]]
    spaced = _SPACED[content[starts[filled]]] | _SPACED[content[stops[filled] - 1]]
    for line in filled[spaced].tolist():
        kept = data[starts[line] : stops[line]]
        starts[line] = stops[line] - len(kept.lstrip(_LINE_SPACE))
        stops[line] = starts[line] + len(kept.strip(_LINE_SPACE))
    whole = starts < stops
    return starts[whole], stops[whole]


def _line_bounds(data: mmap.mmap, start: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of every line that is not blank, less the white space at its ends."""
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end]
        kept = line.strip(_LINE_SPACE)
        if kept:
            first = start + len(line) - len(line.lstrip(_LINE_SPACE))
            yield first, first + len(kept)
        start = end + 1


def _as_arrays(bounds: Iterable[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    flat = array("q")
    for pair in bounds:
        flat.extend(pair)
    pairs = np.frombuffer(flat, dtype=np.int64).reshape(-1, 2)  # [records, 2]
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def what_follows(data: mmap.mmap, error: BrokenJsonError) -> str:
    """Return where an array is broken, and how, in words."""
    at_end = error.position >= len(data)
    what = "the file ends there" if at_end else f"there follows {_text_at(data, error.position)}"
    return f"line {_line_of(data, error.position)}, at byte {error.position}: {error.problem}; {what}"


def _line_of(data: mmap.mmap, position: int) -> int:
    """Return the number, from 1, of the line that holds the byte."""
    steps = range(0, position, _COUNTED_AT_ONCE)
    return 1 + sum(data[start : min(start + _COUNTED_AT_ONCE, position)].count(b"\n") for start in steps)


def _text_at(data: mmap.mmap, position: int) -> str:
    """Return the beginning of what stands there, quoted, its control characters escaped."""
    shown = data[position : position + _SHOWN_BYTES]
    return repr(codecs.getincrementaldecoder("utf-8")("replace").decode(shown))  # less half a character at the cut

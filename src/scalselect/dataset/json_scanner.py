"""Where JSON values begin and end in a buffer of bytes, found without decoding them and without recursion.

The fast reader, msgspec, refuses whole files for a NaN, an infinity or half a surrogate pair, all of which Python's
own writer emits. This scanner only looks at strings and brackets, so it finds the same offsets in such files. Every
regular expression is possessive: none can backtrack, so time is linear and memory constant whatever the input.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    Buffer = bytes | mmap.mmap

SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,:"\[\]{}]++')
_UP_TO_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+[\[\]{}]', re.DOTALL)
_TRAILING_COMMA = re.compile(rb",[ \t\n\r]*+[\]}]")
_CLOSER = {ord("["): ord("]"), ord("{"): ord("}")}
_QUOTE, _COMMA, _COLON = ord('"'), ord(","), ord(":")


class BrokenJsonError(ValueError):
    """The buffer is no JSON.

    Attributes
    ----------
    position
        Byte at which it stops being JSON.
    problem
        What is wrong there, in words.
    """

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"{problem} at byte {position}")
        self.position = position
        self.problem = problem


def skip_space(data: Buffer, position: int) -> int:
    """Return the position of the next byte that is not JSON white space, or the length of `data`."""
    found = SPACE.match(data, position)
    return position if found is None else found.end()


def end_of_value(data: Buffer, start: int) -> int:
    """Return the position after the JSON value that begins at `start`; scalars are not checked.

    Raises
    ------
    BrokenJsonError
        No value begins there, it never ends, or its brackets do not match.
    """
    first = data[start] if start < len(data) else None
    if first in _CLOSER:
        return _end_of_container(data, start)
    found = (_STRING if first == _QUOTE else _SCALAR).match(data, start)
    if found is None:
        raise BrokenJsonError(start, "a string without an end" if first == _QUOTE else "no value")
    return found.end()


def _end_of_container(data: Buffer, start: int) -> int:
    closers = bytearray()  # what must close each open bracket, innermost last
    position = start
    while found := _UP_TO_BRACKET.match(data, position):
        position = found.end()
        bracket = data[position - 1]
        if bracket in _CLOSER:
            closers.append(_CLOSER[bracket])
        elif closers.pop() != bracket:
            raise BrokenJsonError(position - 1, f"`{chr(bracket)}` closes what another bracket opened")
        if not closers:
            return position
    raise BrokenJsonError(len(data), f"the value that begins at byte {start} has no end")


def array_bounds(data: Buffer, start: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of every element of the array at `start`, checking each, and that nothing follows it.

    Raises
    ------
    BrokenJsonError
        At the first byte that does not belong there.
    """
    position = skip_space(data, start + 1)
    if data[position : position + 1] != b"]":
        while True:
            stop = end_of_value(data, position)
            check_value(data[position:stop], position)
            yield position, stop
            position = skip_space(data, stop)
            if data[position : position + 1] != b",":
                break
            position = skip_space(data, position + 1)
            if data[position : position + 1] == b"]":
                raise BrokenJsonError(position, "a trailing comma before `]`")
    if data[position : position + 1] != b"]":
        raise BrokenJsonError(position, "neither `,` nor `]` after a record")
    position = skip_space(data, position + 1)
    if position != len(data):
        raise BrokenJsonError(position, "something follows the end of the array")


def check_value(text: bytes, offset: int) -> None:
    """Check that `text`, which lies at `offset` of its file, is JSON as msgspec or Python's own reader understands it.

    Raises
    ------
    BrokenJsonError
        Naming the byte of the file.
    """
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        characters = text.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 spoil a row, not the file
        try:
            json.loads(characters)
        except json.JSONDecodeError as error:
            position = len(characters[: error.pos].encode("utf-8", "surrogateescape"))
            comma = _TRAILING_COMMA.match(text, max(text.rfind(b",", 0, position + 1), 0))
            # Python before 3.13 stops at the bracket without a word for it, later ones at the comma.
            if comma and (position == comma.end() - 1 or "trailing comma" in error.msg):
                problem = f"a trailing comma before `{chr(text[comma.end() - 1])}`"
                raise BrokenJsonError(offset + comma.end() - 1, problem) from None
            raise BrokenJsonError(offset + position, error.msg.lower()) from None
        except (ValueError, RecursionError):
            return  # too many digits, or nested too deep: JSON all the same


def object_members(text: bytes) -> dict[str, bytes]:
    """Return the members of the JSON object `text`, each value as JSON text; the last of equal keys stays.

    Raises
    ------
    BrokenJsonError
        The structure is broken.
    json.JSONDecodeError
        A key is no JSON string.
    """
    return {key: text[start:stop] for key, start, stop in member_spans(text)}


def member_spans(text: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the key of every member of the JSON object `text`, and where its value lies; raises as `object_members`."""
    position = skip_space(text, 1)
    while text[position : position + 1] != b"}":
        _expect(text, position, _QUOTE)
        stop = end_of_value(text, position)
        key = json.loads(text[position:stop])
        position = skip_space(text, stop)
        _expect(text, position, _COLON)
        position = skip_space(text, position + 1)
        stop = end_of_value(text, position)
        yield key, position, stop
        position = skip_space(text, stop)
        if text[position : position + 1] != b"}":
            _expect(text, position, _COMMA)
            position = skip_space(text, position + 1)
    if position + 1 != len(text):
        raise BrokenJsonError(position + 1, "something follows the end of the object")


def _expect(text: bytes, position: int, character: int) -> None:
    if position >= len(text) or text[position] != character:
        raise BrokenJsonError(position, f"no `{chr(character)}`")


def nested_deeper(text: bytes, limit: int) -> bool:
    """Tell whether brackets of `text` nest deeper than `limit`."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    depth = position = 0
    while found := _UP_TO_BRACKET.match(text, position):
        position = found.end()
        depth += 1 if text[position - 1] in _CLOSER else -1
        if depth > limit:
            return True
    return False

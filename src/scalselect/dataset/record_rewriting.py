"""JSON records with their ids as strings or their image paths absolute, every other byte as it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalselect.dataset.json_scanner import end_of_value, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_QUOTE = ord('"')


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What is changed in a record.

    Attributes
    ----------
    ids_as_strings
        An id that is no string becomes the string of its JSON text; null stays.
    image_keys
        Keys whose paths are replaced; none where paths stay.
    """

    ids_as_strings: bool
    image_keys: Sequence[str]

    def __call__(self, raw: bytes, paths: Mapping[str, str]) -> bytes:
        """Return a record, which must be a JSON object, rewritten.

        Parameters
        ----------
        paths
            Image path as the record has it to what it becomes; others stay.
        """
        pieces, done = [], 0
        for start, stop, text in self._replaced(raw, paths):
            pieces += [raw[done:start], text]
            done = stop
        return b"".join([*pieces, raw[done:]])

    def _replaced(self, raw: bytes, paths: Mapping[str, str]) -> Iterator[tuple[int, int, bytes]]:
        for key, start, stop in _members(raw):
            if self.ids_as_strings and key == "id":
                if raw[start] != _QUOTE and raw[start:stop] != b"null":
                    yield start, stop, json.dumps(raw[start:stop].decode()).encode()
            elif key in self.image_keys:
                yield from _paths_in(raw, start, paths)


def _paths_in(raw: bytes, start: int, paths: Mapping[str, str]) -> Iterator[tuple[int, int, bytes]]:
    """Yield what becomes of the paths in a value: a text, an object with a `path`, or a list of such."""
    first = raw[start : start + 1]
    if first == b"[":
        for begin in _items(raw, start):
            yield from _paths_in(raw, begin, paths)
    elif first == b"{":
        for key, begin, _ in _members(raw, start):
            if key == "path":
                yield from _paths_in(raw, begin, paths)
    elif first == b'"':
        stop = end_of_value(raw, start)
        path = json.loads(raw[start:stop])
        if paths.get(path, path) != path:
            yield start, stop, _encoded(paths[path])


def _encoded(text: str) -> bytes:
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair can only be written escaped
        return json.dumps(text).encode()


def _members(text: bytes, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Yield key, start and stop of each value of the object at `start`, which is known to be JSON."""
    position = skip_space(text, start + 1)
    while text[position : position + 1] != b"}":
        stop = end_of_value(text, position)
        key = json.loads(text[position:stop])
        begin = skip_space(text, skip_space(text, stop) + 1)
        stop = end_of_value(text, begin)
        yield key, begin, stop
        position = _next(text, stop)


def _items(text: bytes, start: int) -> Iterator[int]:
    """Yield where each item of the array at `start` begins."""
    position = skip_space(text, start + 1)
    while text[position : position + 1] != b"]":
        yield position
        position = _next(text, end_of_value(text, position))


def _next(text: bytes, stop: int) -> int:
    """Return where the next member begins after one that ended, or the closing bracket."""
    position = skip_space(text, stop)
    return skip_space(text, position + 1) if text[position : position + 1] == b"," else position

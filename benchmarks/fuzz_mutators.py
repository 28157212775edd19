"""Changes that keep an input nearly whole: of JSON its structure, of a tar the checksums of its headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz_seeds import WORDS

if TYPE_CHECKING:
    import random

_BLOCK = 512
_MOST_NODES = 400
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", " ", "\0", "\ud800", "<image>",
    "<image>" * 5, "data:,", "data:image/png;base64,AAAA", "A" * 2100, [], {}, [[]], [None], [""], {"": None},
    {"bytes": None, "path": None}, {"bytes": "AAAA"}, {"bytes": {"embedded": 0}, "path": "a"},
    {"bytes": {"embedded": -1}}, {"type": "image"}, {"type": "text", "text": "a"}, {"role": "user", "content": "a"},
    {"from": "gpt", "value": "<image>"}, {"from": ["gpt"], "value": {}}, {"human": "a", "assistant": "b"},
)  # fmt: skip


def mutated_json(text: bytes, generator: random.Random) -> bytes | None:
    """Return the JSON with one to four nodes changed; None where the text is no JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(generator.randint(1, 4)):
        value = _with_change(value, generator)
    try:
        return json.dumps(value, ensure_ascii=generator.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _with_change(value: Any, generator: random.Random) -> Any:
    places: list[tuple[Any, Any]] = []  # container and key of every node below
    waiting = [value]
    while waiting and len(places) < _MOST_NODES:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            waiting.append(node[key])
    if not places:
        return generator.choice((*_VALUES, {"conversations": []}, {"messages": []}))
    node, key = generator.choice(places)
    _change(node, key, places, generator)
    return value


def _change(node: Any, key: Any, places: list[tuple[Any, Any]], generator: random.Random) -> None:
    how = generator.randrange(7)
    other, other_key = generator.choice(places)
    copied = json.loads(json.dumps(other[other_key]))
    if how == 0:
        node[key] = json.loads(json.dumps(generator.choice(_VALUES)))
    elif how == 1:
        del node[key]
    elif how == 2:
        node[key] = copied
    elif how == 3:
        node[key] = [node[key]]
    elif isinstance(node, list):
        node.insert(generator.randrange(len(node) + 1), copied)
    elif how == 4:
        node[generator.choice(WORDS)] = node.pop(key)
    elif how == 5:
        node[generator.choice(WORDS)] = copied
    elif isinstance(node[key], str):
        node[key] = node[key] * 2 + generator.choice(WORDS)


def with_checksums(content: bytes) -> bytes:
    """Return a tar whose headers have the checksums that fit them, wherever something like a header stands."""
    fixed = bytearray(content)
    for start in range(0, len(fixed) - _BLOCK + 1, _BLOCK):
        block = fixed[start : start + _BLOCK]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            fixed[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(fixed)

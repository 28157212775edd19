"""Records mutated in structure, type, encoding and size, as the text that stands in a data file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz_mutators import mutated_json

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Mutation = Callable[[dict[str, Any], random.Random], bytes]

FORMATS = ("llava", "messages", "alpaca", "query-response", "prompt-completion")
_DEEP, _DIGITS = 100_000, 100_000
_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2.5,
    10**25,
    "",
    " ",
    "x",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"a": {}},
    "<image>",
    "\ud83d",
    "\0\x1b[2J",
    float("nan"),
    float("-inf"),
)


def good_record(record_format: str, number: int, pictures: Sequence[Path | str]) -> dict[str, Any]:
    """Return a record that can be used, of any format."""
    picture = str(pictures[number % len(pictures)])
    question, answer = f"<image>\nWhat is number {number}?", f"It is {number}."
    if record_format == "llava":
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"id": number, "image": picture, "conversations": turns}
    if record_format == "messages":
        content = [{"type": "image"}, {"type": "text", "text": question.removeprefix("<image>\n")}]
        turns = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        return {"id": number, "messages": turns, "images": [picture]}
    if record_format == "alpaca":
        return {"id": number, "instruction": question, "input": "", "output": answer, "images": [picture]}
    if record_format == "query-response":
        return {"id": number, "query": question, "response": answer, "history": [["a", "b"]], "images": [picture]}
    turns = [{"role": "user", "content": question}], [{"role": "assistant", "content": answer}]
    return {"id": number, "prompt": turns[0], "completion": turns[1], "images": [picture]}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of every value in a record."""
    found = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(value, key), *_places(value[key])]
    return found


def _text(record: Any) -> bytes:
    return json.dumps(record).encode()


def _inserted(record: dict[str, Any], generator: random.Random, text: bytes) -> bytes:
    """Return the record with some text in place of one of its values."""
    node, key = generator.choice(_places(record))
    node[key] = "\x01here\x01"
    return _text(record).replace(b'"\\u0001here\\u0001"', text)


def _structure(record: dict[str, Any], generator: random.Random) -> bytes:
    return mutated_json(_text(record), generator) or b"{}"


def _wrong_type(record: dict[str, Any], generator: random.Random) -> bytes:
    node, key = generator.choice(_places(record))
    node[key] = generator.choice(_ODD)
    return _text(record)


def _missing(record: dict[str, Any], generator: random.Random) -> bytes:
    node, key = generator.choice(_places(record))
    del node[key]
    return _text(record)


def _all_empty(record: dict[str, Any], generator: random.Random) -> bytes:
    empty = generator.choice((None, "", [], {}))
    return _text(dict.fromkeys(record, empty))


def _byte_changed(record: dict[str, Any], generator: random.Random) -> bytes:
    text = bytearray(_text(record))
    text[generator.randrange(len(text))] = generator.choice([byte for byte in range(256) if byte != 10])
    return bytes(text)


def _truncated(record: dict[str, Any], generator: random.Random) -> bytes:
    return _text(record)[: generator.randrange(1, len(_text(record)))]


def _twice_a_key(record: dict[str, Any], generator: random.Random) -> bytes:
    key = generator.choice(list(record))
    return b"{" + json.dumps(key).encode() + b": " + _text(generator.choice(_ODD)) + b", " + _text(record)[1:]


def _nested(record: dict[str, Any], generator: random.Random) -> bytes:
    opening, closing = generator.choice(((b"[", b"]"), (b'{"a":', b"}")))
    ends = generator.choice((_DEEP, _DEEP, 0))
    return _inserted(record, generator, opening * _DEEP + b"1" + closing * ends)


def _marked(record: dict[str, Any], generator: random.Random) -> bytes:
    node, key = generator.choice([(node, key) for node, key in _places(record) if isinstance(node[key], str)])
    node[key] = generator.choice(("<image>", "<image> ", "<|image_pad|>", "<video>", "\U000f0000")) * 1000
    return _text(record)


MUTATIONS: dict[str, Mutation] = {
    "structure changed": _structure,
    "a wrong type": _wrong_type,
    "a key missing": _missing,
    "all empty": _all_empty,
    "a byte changed": _byte_changed,
    "truncated": _truncated,
    "a key twice": _twice_a_key,
    "nested deeply": _nested,
    "many markers": _marked,
    "many digits": lambda record, generator: _inserted(
        record, generator, b"-"[: generator.randrange(2)] + b"9" * _DIGITS
    ),
    "no number": lambda record, generator: _inserted(
        record, generator, generator.choice((b"NaN", b"-Infinity", b"1e999", b"01", b"+1", b"0x1", b"1.", b"nul"))
    ),
    "odd text": lambda record, generator: _inserted(
        record,
        generator,
        generator.choice(
            (
                b'"\\ud800"',
                b'"\\udfff\\ud83d"',
                b'"\\u0000"',
                b'"\x00"',
                b'"\xff\xfe"',
                b'"\xc0\x80"',
                b'"\xed\xa0\x80"',
                b'"\x1b[31m"',
                b'"\t"',
                b'"\\x"',
                b"'a'",
                b'"\\u12"',
                b'"\xe2\x80\xa8"',
            )
        ),
    ),
    "another encoding": lambda record, generator: (
        json.dumps(record, ensure_ascii=False)
        .encode(generator.choice(("utf-16", "utf-16-be", "utf-32", "utf-7", "cp037", "utf-8-sig")))
        .replace(b"\n", b"")
    ),
    "no object": lambda record, generator: generator.choice(
        (b"[" + _text(record) + b"]", _text(_text(record).decode()), b"null", b"1", b"[]", b'"a"', b"{}", b"{} {}")
    ),
    "garbage behind": lambda record, generator: (
        _text(record) + generator.choice((b",", b"]", b"}", b" x", b"\0", b"{}"))
    ),
}


def huge(what: str, pictures: Sequence[Path | str]) -> dict[str, Any]:
    """Return a record of enormous size."""
    record = good_record("llava", 0, pictures)
    turns = record["conversations"]
    if what == "a text of 100 MB":
        turns[0]["value"] += "word " * 20_000_000
    elif what == "a name of 100 MB":
        record["image"] = "a" * 100_000_000
    elif what == "an id of 100 MB":
        record["id"] = "a" * 100_000_000
    elif what == "a million turns":
        record["conversations"] = turns + [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 500_000
    elif what == "100,000 images":
        record["image"] = [str(pictures[0])] * 100_000
        turns[0]["value"] = "<image>" * 100_000
    elif what == "10 MB of markers":
        turns[0]["value"] = "<image>" * 1_500_000
    elif what == "a million keys":
        record |= {f"k{number}": number for number in range(1_000_000)}
    elif what == "100 MB of base64":
        record["image"] = "data:image/png;base64," + "A" * 100_000_000
    return record


HUGE = (
    "a text of 100 MB",
    "a name of 100 MB",
    "an id of 100 MB",
    "a million turns",
    "100,000 images",
    "10 MB of markers",
    "a million keys",
    "100 MB of base64",
)

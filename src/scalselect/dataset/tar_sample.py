"""One sample of a WebDataset tar as a record: its JSON member, with the image members put where images are named."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from scalselect.dataset.json_scanner import member_spans
from scalselect.dataset.record_fields import decode_field, record_fields, shown
from scalselect.dataset.tar_index import key_and_field
from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.dataset.record_fields import Fields

_JSON_FIELDS = ("json", "jsn")
_IMAGE = re.compile(
    r"(?:.*\.)?(?:apng|avif|bmp|dib|gif|hei[cf]|ico|j2k|jfif|jp2|jpe|jpe?g|pbm|pgm|png|pnm|ppm|tga|tiff?|webp)"
)
_VIDEO = re.compile(r"(?:.*\.)?(?:avi|flv|m4v|mkv|mov|mp4|mpe?g|webm|wmv)")
_AUDIO = re.compile(r"(?:.*\.)?(?:aac|aiff|flac|m4a|mp3|og[ag]|opus|wav|wma)")
_IMAGE_KEYS = ("images", "image")
_DIGITS = re.compile(r"(\d+)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAMES_SHOWN = 6


def json_member(names: Sequence[str]) -> int:
    """Return which member holds the record. Raises SampleError, `invalid_record`, where none does."""
    fields = [key_and_field(name)[1] for name in names]
    for wanted in _JSON_FIELDS:
        if wanted in fields:
            return fields.index(wanted)
    has = ", ".join(f"`.{field}`" for field in fields[:_NAMES_SHOWN])
    raise SampleError(Reason.INVALID_RECORD, f"sample `{key_and_field(names[0])[0]}` has no `.json` member, only {has}")


def record_of_sample(names: Sequence[str], text: bytes) -> tuple[bytes, list[int]]:
    """Return the record of a sample, and which members its images are.

    The record is the text of the JSON member, byte for byte, but for these: its image keys (`images`, where it has
    none) hold the image members, each as ``{"bytes": {"embedded": n}, "path": name}``; the key of the sample becomes
    its `id` where it has none; video and audio members are named under `videos` and `audios`.

    Parameters
    ----------
    names
        Names of the members of the sample.
    text
        Content of its JSON member.

    Raises
    ------
    SampleError
        `invalid_record`: the images that the record names are not those that lie beside it.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK).strip(b" \t\r\n")
    pictures = _in_natural_order(names, _IMAGE)
    try:
        fields = record_fields(text)
    except SampleError:  # no object: whoever reads the text says so
        return text, pictures
    added: dict[str, Any] = {}
    if "id" not in fields:
        added["id"] = key_and_field(names[0])[0]
    for key, kind in (("videos", _VIDEO), ("audios", _AUDIO)):
        if media := _in_natural_order(names, kind):
            added[key] = [names[member] for member in media]
    if pictures:
        pictures = _as_named(fields, names, pictures)
        value = [{"bytes": {"embedded": n}, "path": names[member]} for n, member in enumerate(pictures)]
        added |= dict.fromkeys([key for key in _IMAGE_KEYS if key in fields] or _IMAGE_KEYS[:1], value)
    return _with_members(text, added, fields), pictures


def _in_natural_order(names: Sequence[str], kind: re.Pattern[str]) -> list[int]:
    """Return the members whose fields are of a kind, `a.2.png` before `a.10.png`."""
    fields = [key_and_field(name)[1] for name in names]
    found = [member for member, field in enumerate(fields) if kind.fullmatch(field)]
    return sorted(found, key=lambda member: _natural(fields[member]))


def _natural(field: str) -> list[tuple[int, str]]:
    """Return what sorts fields as people do: runs of digits as numbers."""
    pieces = enumerate(_DIGITS.split(field))  # every second one is a run of digits
    return [(len(piece.lstrip("0")) if place % 2 else 0, piece) for place, piece in pieces]


def _as_named(fields: Fields, names: Sequence[str], pictures: list[int]) -> list[int]:
    """Return the image members in the order in which the record names them, in natural order if it names none."""
    orders = [_order_of(key, fields, names, pictures) for key in _IMAGE_KEYS]
    named = [order for order in orders if order]
    if any(order != named[0] for order in named):
        raise SampleError(Reason.INVALID_RECORD, "`images` and `image` name different members")
    return named[0] if named else pictures


def _order_of(key: str, fields: Fields, names: Sequence[str], pictures: list[int]) -> list[int]:
    value = decode_field(fields, key)
    if value is None or value in ("", []):
        return []
    texts = [_name_in(item) for item in (value if isinstance(value, list) else [value])]
    if not all(isinstance(text, str) for text in texts):
        raise SampleError(Reason.INVALID_RECORD, f"`{key}` holds what names no member, beside image members")
    called = {spelling: member for member in pictures for spelling in _spellings(names[member])}
    found = [called[text] for text in texts if text in called]
    if len(found) == len(texts):
        return found
    if found or len(texts) != len(pictures):
        other = next(text for text in texts if text not in called)
        of = f"{len(pictures)} image members lie beside it" if len(pictures) > 1 else "1 image member lies beside it"
        raise SampleError(Reason.INVALID_RECORD, f"`{key}` names {len(texts)}, among them {shown(other)}; {of}")
    return pictures  # where the pictures lay before they were put into the tar


def _name_in(item: object) -> object:
    return item.get("path") if isinstance(item, dict) and not item.get("bytes") else item


def _spellings(name: str) -> tuple[str, str, str]:
    """Return how a record may name a member: in full, without its folders, without its key."""
    base = name.rpartition("/")[2]
    return name, base, base.partition(".")[2]


def _with_members(text: bytes, added: dict[str, Any], fields: Fields) -> bytes:
    """Return a JSON object with some members more; those it has already are replaced where they stand."""
    pieces, position = [], 0
    if any(key in fields for key in added):
        for key, start, stop in member_spans(text):
            if key in added:
                pieces += [text[position:start], json.dumps(added[key]).encode()]
                position = stop
    new = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in added.items() if key not in fields]
    comma = ", " if fields and new else ""
    return b"".join([*pieces, text[position:-1], comma.encode(), ", ".join(new).encode(), b"}"])

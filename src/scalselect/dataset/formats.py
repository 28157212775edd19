"""The record formats: under which keys a record keeps its turns and its images, and which format a pool is in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.record_fields import decode_field, has_lone_surrogate, record_fields, shown
from scalselect.errors import DatasetError, OptionError, SampleError, did_you_mean
from scalselect.records import ImageReference, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalselect.dataset.record_fields import Fields

_RECORDS_LOOKED_AT = 100
_KEYS_SHOWN = 12
_URL = re.compile(r"(?:[a-z][a-z0-9+.\-]*://|file:|data:)", re.IGNORECASE)
_OTHER_MEDIA = ("video", "videos", "audio", "audios")
_ALPACA_KEYS = ("instruction", "output")


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """Where records of one format keep what.

    Attributes
    ----------
    name, title
        For options and for people.
    turns_key
        Key of the list of turns.
    image_keys
        Keys of one image or a list of images, the usual one first.
    """

    name: str
    title: str
    turns_key: str
    image_keys: tuple[str, ...]

    def turns(self, fields: Fields) -> list[Any]:
        """Return the turns as recorded. Raises SampleError: `no_usable_turn`, `invalid_record`."""
        turns = decode_field(fields, self.turns_key)
        if turns is None:
            raise SampleError(Reason.NO_USABLE_TURN, f"no conversation under `{self.turns_key}`")
        if not isinstance(turns, list):
            raise SampleError(Reason.INVALID_RECORD, f"`{self.turns_key}` is no list of turns: {shown(turns)}")
        return turns

    def image_texts(self, fields: Fields) -> list[str]:
        """Return the image references as recorded, in order. Raises SampleError: `invalid_record`."""
        filled = [(key, texts) for key in self.image_keys if (texts := _texts_of(decode_field(fields, key), key))]
        if not filled:
            return []
        (first_key, first), *others = filled
        for key, texts in others:
            if texts != first:
                raise SampleError(Reason.INVALID_RECORD, f"`{first_key}` and `{key}` name different images")
        return first


FORMATS = {
    known.name: known
    for known in (
        RecordFormat("llava", "LLaVA records", "conversations", ("image", "images")),
        RecordFormat("messages", "Message records", "messages", ("images", "image")),
    )
}


def choose_format(name: str, records: Iterable[bytes], where: str, first_fault: str | None = None) -> RecordFormat:
    """Return the format of that name; for `auto` the one whose turns key most of the first 100 objects have.

    Parameters
    ----------
    where
        What holds the records, for messages.
    first_fault
        Which record of a list could not be encoded, and why; told where no other is an object.

    Raises
    ------
    OptionError
        The name is unknown.
    DatasetError
        `auto`, and no record has a turns key: naming `where` and the keys that were seen.
    """
    if name != "auto":
        if name not in FORMATS:
            names = ("auto", *FORMATS)
            raise OptionError(f"format must be one of {', '.join(names)}: {name!r}{did_you_mean(str(name), names)}")
        return FORMATS[name]
    seen: dict[str, int] = {}  # key: number of records that have it
    looked_at = 0
    for raw in records:
        try:
            keys = list(record_fields(raw))
        except SampleError:
            continue
        for key in keys:
            seen[key] = seen.get(key, 0) + 1
        looked_at += 1
        if looked_at == _RECORDS_LOOKED_AT:
            break
    best = max(FORMATS.values(), key=lambda known: seen.get(known.turns_key, 0))
    if best.turns_key not in seen:
        raise DatasetError(_unknown_format(where, list(seen), first_fault))
    return best


def refuse_other_media(fields: Fields) -> None:
    """Raise SampleError, `unsupported_content`, for a record with video or audio."""
    for key in _OTHER_MEDIA:
        if decode_field(fields, key):
            raise SampleError(Reason.UNSUPPORTED_CONTENT, f"the record has something under `{key}`")


def image_reference(text: str, folder: str) -> ImageReference:
    """Return the local file that `text` means, relative paths being relative to `folder`.

    Raises
    ------
    SampleError
        `image_missing`: a URL, which is never fetched.
    """
    scheme = _URL.match(text)
    if scheme:
        raise SampleError(Reason.IMAGE_MISSING, f"no local path, and nothing is fetched: {shown(text)}")
    return ImageReference(text, os.path.join(folder, text))  # noqa: PTH118  a Path would drop `./` and `//`


def _texts_of(value: object, key: str) -> list[str]:
    if value is None or value in ("", []):
        return []
    texts: list[str] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or not text:
            raise SampleError(Reason.INVALID_RECORD, f"`{key}` holds what is no path: {shown(text)}")
        if has_lone_surrogate(text):
            raise SampleError(Reason.INVALID_RECORD, f"`{key}` holds half of a surrogate pair: {shown(text)}")
        texts.append(text)
    return texts


def _unknown_format(where: str, keys: list[str], first_fault: str | None) -> str:
    turns_keys = [known.turns_key for known in FORMATS.values()]
    wanted = "wanted: turns under " + " or ".join(f"`{key}`" for key in turns_keys)
    if not keys:
        found = f"{first_fault}; {wanted}" if first_fault else wanted
        return f"format cannot be recognised, no record is a JSON object: {where} ({found})"
    if all(key in keys for key in _ALPACA_KEYS):
        spelled = ", ".join(f"`{key}`" for key in _ALPACA_KEYS)
        advice = f"convert them to messages or LLaVA records; {wanted}"
        return f"format is not supported yet: {where} has alpaca records, with the keys {spelled} ({advice})"
    other_fields = {*_OTHER_MEDIA, *(key for known in FORMATS.values() for key in known.image_keys)}
    listed = ", ".join(shown(key).strip("'") for key in keys[:_KEYS_SHOWN])
    near = next((hint for key in keys if key not in other_fields and (hint := did_you_mean(key, turns_keys))), "")
    return f"format cannot be recognised: {where} has records with the keys {listed} ({wanted}){near}"

"""What a record says of an image: a path, a URL, a data URL, or bytes; checked, and named for messages."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from scalselect.dataset.record_fields import has_lone_surrogate, shown
from scalselect.errors import SampleError
from scalselect.records import Reason

# A text is a path, a URL or a data URL; an object has `bytes` (base64, or where they lie in the container) or `path`.
ImageValue = str | dict[str, Any]

_DATA_URL = "data:"
_LONGEST_PATH = 2_000  # characters; a longer text of nothing but base64 is no path, and ms-swift takes it so
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")


def image_values(value: object, key: str) -> list[ImageValue]:
    """Return the images of a field, one or a list, in order; null, `""`, `[]` and an object of nulls mean none.

    Raises
    ------
    SampleError
        `invalid_record`: naming `key`.
    """
    if value is None or value in ("", []) or _is_empty(value):
        return []
    return [checked_image(item, f"`{key}`") for item in (value if isinstance(value, list) else [value])]


def checked_image(value: object, where: str) -> ImageValue:
    """Return the value if an image can be had from it. Raises SampleError: `invalid_record`."""
    if isinstance(value, dict):
        path, content = value.get("path"), value.get("bytes")
        if content is not None and not isinstance(content, str) and embedded_number(value) is None:
            raise SampleError(Reason.INVALID_RECORD, f"{where} has `bytes` that are no base64 text: {shown(content)}")
        if content is None and path is None:
            both = "whose `bytes` and `path` are both null" if {"bytes", "path"} <= set(value) else ""
            raise SampleError(
                Reason.INVALID_RECORD, f"{where} is an object {both or 'with neither `bytes` nor `path`'}"
            )
        if path is not None and (content is None or path != ""):
            _checked_text(path, f"`path` of {where}")
        return {"bytes": content, "path": path or None}
    text = _checked_text(value, where)
    bare = len(text) > _LONGEST_PATH and _BASE64.fullmatch(text) is not None
    return {"bytes": text, "path": None} if bare else text


def lies_in_the_data(value: ImageValue) -> bool:
    """Tell whether the bytes of the image are in the data themselves, not in a file of their own."""
    return value["bytes"] is not None if isinstance(value, dict) else value[: len(_DATA_URL)].lower() == _DATA_URL


def path_of(value: ImageValue) -> str | None:
    """Return the path or URL that the record gives, if it gives one."""
    if isinstance(value, dict):
        path: str | None = value["path"]
        return path
    return None if lies_in_the_data(value) else value


def embedded_number(value: ImageValue) -> int | None:
    """Return which image bytes of the record the container is to be asked for; None where they are in the JSON text."""
    content = value.get("bytes") if isinstance(value, dict) else None
    number = content.get("embedded") if isinstance(content, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def written_bytes(value: ImageValue) -> bytes:
    """Return the bytes that stand in the JSON text of the record, as base64 or in a data URL.

    Raises
    ------
    SampleError
        `image_unreadable`: broken base64, or a data URL without data.
    """
    text = value["bytes"] if isinstance(value, dict) else value
    if text[: len(_DATA_URL)].lower() != _DATA_URL:
        return _from_base64(text, "`bytes`")
    head, comma, data = text.partition(",")
    if not comma:
        raise SampleError(Reason.IMAGE_UNREADABLE, f"a data URL without a comma: {shown(text)}")
    if head.lower().rstrip().endswith(";base64"):
        return _from_base64(unquote_to_bytes(data).decode("latin-1") if "%" in data else data, "the data URL")
    return unquote_to_bytes(data)


def _from_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SampleError(Reason.IMAGE_UNREADABLE, f"{where} cannot be read as base64: {error}") from None


def _is_empty(value: object) -> bool:
    """Tell whether this is the object that a null image becomes in some tables."""
    return isinstance(value, dict) and bool(value) and set(value) <= {"bytes", "path"} and not any(value.values())


def _checked_text(text: object, where: str) -> str:
    if not isinstance(text, str) or not text:
        raise SampleError(Reason.INVALID_RECORD, f"{where} holds what is no path: {shown(text)}")
    if has_lone_surrogate(text):
        raise SampleError(Reason.INVALID_RECORD, f"{where} holds half of a surrogate pair: {shown(text)}")
    return text

"""What a turn says, as texts and places of images: a text with `<image>` markers, or a list of content parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.image_values import checked_image
from scalselect.dataset.record_fields import has_lone_surrogate, shown
from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalselect.dataset.image_values import ImageValue

IMAGE_MARKER = "<image>"

_TEXT_KEYS = ("text", "value")
# Of the parts that name an image: the keys that may hold it, the usual one first.
_IMAGE_KEYS = {
    "image": ("image", "image_url", "url", "path", "base64", "value"),
    "image_url": ("image_url", "url", "image", "value"),
}


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """Where an image stands; `own` is what its content part brings, None for the next one of the record's images."""

    own: ImageValue | None = None


def content_pieces(content: object, where: str) -> list[str | ImagePlace]:
    """Return the texts and the places of images in the content of one turn, in order.

    Parameters
    ----------
    content
        A text, or a list of parts: texts, `{"type": "text", "text": ...}`, `{"type": "image", ...}` and
        `{"type": "image_url", ...}`. Keys of a part that are null count as absent.
    where
        Whose content this is, for messages.

    Raises
    ------
    SampleError
        `invalid_record`, or `unsupported_content` for a part of another type.
    """
    if isinstance(content, list):
        parts = enumerate(content, start=1)
        return [piece for number, part in parts for piece in _pieces_of_part(part, f"part {number} of {where}")]
    if isinstance(content, dict):
        raise SampleError(Reason.UNSUPPORTED_CONTENT, f"{where} is an object, no text and no list of parts")
    return list(_cut_at_markers(checked_text(content, where)))


def checked_text(text: object, where: str) -> str:
    """Return the text. Raises SampleError, `invalid_record`, where it is none or no tokenizer takes it."""
    if not isinstance(text, str):
        raise SampleError(Reason.INVALID_RECORD, f"{where} is no text: {shown(text)}")
    if has_lone_surrogate(text):
        raise SampleError(Reason.INVALID_RECORD, f"{where} holds half of a surrogate pair")
    return text


def _pieces_of_part(part: object, where: str) -> list[str | ImagePlace]:
    if isinstance(part, str):
        return list(_cut_at_markers(checked_text(part, where)))
    if not isinstance(part, dict):
        raise SampleError(Reason.INVALID_RECORD, f"{where} is neither a text nor an object: {shown(part)}")
    kind = part.get("type")
    if kind == "text":
        return list(_cut_at_markers(checked_text(_first_filled(part, _TEXT_KEYS), f"the text of {where}")))
    if isinstance(kind, str) and kind in _IMAGE_KEYS:
        return [ImagePlace(_image_of(part, kind, where))]
    raise SampleError(Reason.UNSUPPORTED_CONTENT, f"{where} has the type {shown(kind)}")


def _image_of(part: dict[str, Any], kind: str, where: str) -> ImageValue | None:
    if part.get("bytes") is not None:  # the part itself is the image
        return checked_image(part, where)
    key = next((key for key in _IMAGE_KEYS[kind] if part.get(key) is not None), None)
    if key is None:
        if kind == "image_url":
            raise SampleError(Reason.INVALID_RECORD, f"{where} has no `image_url`")
        return None
    value = part[key]
    if key == "base64":
        value = {"bytes": value}
    elif isinstance(value, dict) and value.get("url") is not None:
        value = value["url"]
    return checked_image(value, f"`{key}` of {where}")


def _first_filled(part: dict[str, Any], keys: tuple[str, ...]) -> object:
    return next((part[key] for key in keys if part.get(key) is not None), None)


def _cut_at_markers(content: str) -> Iterator[str | ImagePlace]:
    """Yield the texts between the markers, without the white space beside these, and the places of the images."""
    pieces = content.split(IMAGE_MARKER)
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        text = piece.lstrip() if number > 0 else piece
        text = text.rstrip() if number < last else text
        if text:
            yield text
        if number < last:
            yield ImagePlace()

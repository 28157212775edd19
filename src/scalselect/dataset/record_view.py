"""A record as a trainer's loader meets it: who speaks in each turn, where markers stand, what the image field holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from scalselect.dataset.content_parts import IMAGE_MARKER
from scalselect.dataset.dataset_info_format import MAPPED_FORMAT
from scalselect.dataset.record_fields import decode_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.dataset.conversations import TurnTags
    from scalselect.dataset.record_fields import Fields
    from scalselect.dataset.record_formats import RecordFormat
    from scalselect.records import Role

ImageKind = Literal["absent", "null", "empty", "string", "object", "list", "other"]

_TYPES: dict[ImageKind, type] = {"string": str, "list": list, "object": dict}
_IMAGE_PARTS = ("image", "image_url")


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn.

    Attributes
    ----------
    style
        Key of the role, such as `from` or `role`; None where the turn has none, or is no object.
    role
        The role as it is written; None where it is no text.
    speaker
        Who that is; None for an unknown word.
    markers
        `<image>` in the text, and content parts that are images.
    in_parts
        The content is a list of parts, not a text.
    """

    style: str | None
    role: str | None
    speaker: Role | None
    markers: int
    in_parts: bool


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record.

    Attributes
    ----------
    image_key
        The first of the format's image keys that the record has, also with a null; None where it has none.
    image_kind
        What lies under that key.
    images
        Number of images, under the record's own keys and in content parts.
    turns_key
        The key that holds the turns, where they are a list under one key.
    image_text_empty
        An image is given as a text without letters: `""`.
    has_null_image
        A list of images has a null in it.
    images_in_text
        Images that are data URLs, or bytes in base64, in the record's own text.
    named_roles
        The words for roles that a `dataset_info.json` lists; None where none describes the records.
    """

    turns: tuple[TurnView, ...]
    image_key: str | None
    image_kind: ImageKind
    images: int
    turns_key: str | None = None
    image_text_empty: bool = False
    has_null_image: bool = False
    images_in_text: int = 0
    named_roles: frozenset[str] | None = None

    @property
    def markers(self) -> int:
        """Markers of all turns."""
        return sum(turn.markers for turn in self.turns)

    @property
    def markers_in_answers(self) -> int:
        """Markers of the assistant's turns."""
        return sum(turn.markers for turn in self.turns if turn.speaker == "assistant")


def view_record(fields: Fields, record_format: RecordFormat) -> RecordView:
    """Return what a loader meets of a record. Raises SampleError where there are no turns, or a field is no JSON."""
    turns = record_format.turns(fields)
    views = tuple(_view_turn(turn, record_format.tags) for turn in turns)
    named = frozenset(record_format.tags.roles) if record_format.name == MAPPED_FORMAT else None
    key: str | None = None
    kind: ImageKind = "absent"
    images, in_text, empty, null = 0, 0, False, False
    for name in record_format.image_keys:
        if name not in fields:
            continue
        value = decode_field(fields, name)
        if key is None or (not images and _count(value)):
            key, kind, images = name, _kind_of(value), _count(value)
            held = value if isinstance(value, list) else [value]
            in_text, empty = sum(_in_text(image) for image in held), "" in held
            null = isinstance(value, list) and None in held
    return RecordView(
        views,
        key,
        kind,
        images + _own_images(turns, record_format.tags),
        turns_key=_turns_key(fields, record_format),
        image_text_empty=empty,
        has_null_image=null,
        images_in_text=in_text,
        named_roles=named,
    )


def _turns_key(fields: Fields, record_format: RecordFormat) -> str | None:
    """Return the key whose list was read; one that holds null is passed over, as `TurnList` does."""
    keys = getattr(record_format.turn_source, "keys", ())
    return next((key for key in keys if key in fields and bytes(fields[key]) != b"null"), None)


def _view_turn(turn: object, tags: TurnTags) -> TurnView:
    if not isinstance(turn, dict):
        return TurnView(None, None, None, 0, in_parts=False)
    pairs = [pair for pair in tags.keys if turn.get(pair[0]) is not None]
    if not pairs:
        return TurnView(None, None, None, 0, in_parts=False)
    style, key = next((pair for pair in pairs if turn.get(pair[1]) is not None), pairs[0])
    role, content = turn[style], turn.get(key)
    word = role if isinstance(role, str) else None
    return TurnView(style, word, tags.roles.get(word or ""), _markers(content), isinstance(content, list))


def _markers(content: object) -> int:
    if isinstance(content, str):
        return content.count(IMAGE_MARKER)
    if not isinstance(content, list):
        return 0
    return sum(1 if _is_image(part) else _markers(_text_of(part)) for part in content)


def _own_images(turns: Sequence[Any], tags: TurnTags) -> int:
    """Return the number of content parts that bring their own image."""
    contents = [turn.get(key) for turn in turns if isinstance(turn, dict) for _, key in tags.keys]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sum(_is_image(part) and any(part[key] is not None for key in part if key != "type") for part in parts)


def _is_image(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _IMAGE_PARTS


def _text_of(part: object) -> object:
    return part.get("text", part.get("value")) if isinstance(part, dict) else part


def _kind_of(value: object) -> ImageKind:
    if value is None:
        return "null"
    if value in ("", []):
        return "empty"
    return next((kind for kind, of in _TYPES.items() if isinstance(value, of)), "other")


def _in_text(image: object) -> bool:
    if isinstance(image, dict):
        return isinstance(image.get("bytes"), str)  # an object there: the bytes lie in the container, outside the text
    return isinstance(image, str) and image[:5].lower() == "data:"


def _count(value: object) -> int:
    return 0 if value in (None, "", []) else len(value) if isinstance(value, list) else 1

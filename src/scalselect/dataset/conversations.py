"""A record's conversation as turns of text and image parts: roles, and where the `<image>` markers put the images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.record_fields import has_lone_surrogate, shown
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason, TextPart, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalselect.records import Role

IMAGE_MARKER = "<image>"

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "system": "system",
}
_TURN_KEYS = (("from", "value"), ("role", "content"))


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of a sample; see `scalselect.records.Sample` for `images_in_front`."""

    turns: tuple[Turn, ...]
    images_in_front: bool


def read_conversation(turns: Sequence[Any], images: int, *, image_position: str = "record") -> Conversation:
    """Return the turns of a record, its images put where its markers stand.

    Parameters
    ----------
    turns
        The record's turns: objects with `from` and `value`, or `role` and `content`.
    images
        Number of the record's images; they fill the markers in order, over all turns.
    image_position
        `record` leaves markers where they are; `turn-start` moves the images of each turn in front of its text.

    Raises
    ------
    SampleError
        `no_usable_turn` (no turn has any text but white space), `unknown_role`, `unsupported_content`,
        `invalid_record` or `marker_mismatch`.
    """
    spoken = [_read_turn(turn, number) for number, turn in enumerate(turns, start=1)]
    if not spoken:
        raise SampleError(Reason.NO_USABLE_TURN, "the conversation is empty")
    markers = sum(content.count(IMAGE_MARKER) for _, content in spoken)
    if markers not in {0, images}:
        raise SampleError(Reason.MARKER_MISMATCH, f"{markers} `{IMAGE_MARKER}` markers, {images} images")
    indices = iter(range(images))
    placed = [Turn(role, tuple(_cut_at_markers(content, indices))) for role, content in spoken]
    in_front = images > 0 and markers == 0
    if in_front:
        placed = _with_images_in_front(placed, images)
    if not any(isinstance(part, TextPart) and part.text.strip() for turn in placed for part in turn.parts):
        raise SampleError(Reason.NO_USABLE_TURN, "no turn has any text")  # with images or without: nothing to learn
    if image_position == "turn-start":
        placed = [_images_first(turn) for turn in placed]
    return Conversation(tuple(placed), in_front)


def hash_of_turns(turns: Sequence[Turn]) -> str:
    """Return the hexadecimal SHA-256 over roles and parts: a text counts as itself, an image as its position."""
    spelled = [
        [turn.role, [part.text if isinstance(part, TextPart) else part.index for part in turn.parts]] for turn in turns
    ]
    encoded = json.dumps(spelled, ensure_ascii=False, separators=(",", ":")).encode()
    return hashlib.sha256(encoded).hexdigest()


def _read_turn(turn: object, number: int) -> tuple[Role, str]:
    if not isinstance(turn, dict):
        raise SampleError(Reason.INVALID_RECORD, f"turn {number} is no object: {shown(turn)}")
    role_key, content_key = _keys_of(turn)
    if role_key not in turn:
        raise SampleError(Reason.UNKNOWN_ROLE, f"turn {number} has neither `from` nor `role`")
    role = turn[role_key]
    if not isinstance(role, str) or role not in _ROLES:
        raise SampleError(Reason.UNKNOWN_ROLE, f"`{role_key}` of turn {number}: {shown(role)}")
    return _ROLES[role], _text_of(turn.get(content_key), f"`{content_key}` of turn {number}")


def _keys_of(turn: dict[str, Any]) -> tuple[str, str]:
    """Return the keys this turn uses: the pair it has whole, else the one whose role is there."""
    whole = [pair for pair in _TURN_KEYS if pair[0] in turn and pair[1] in turn]
    begun = [pair for pair in _TURN_KEYS if pair[0] in turn]
    return (whole or begun or list(_TURN_KEYS))[0]


def _text_of(content: object, where: str) -> str:
    if isinstance(content, (list, dict)):
        raise SampleError(Reason.UNSUPPORTED_CONTENT, f"{where} is made of content parts, not a text")
    if not isinstance(content, str):
        raise SampleError(Reason.INVALID_RECORD, f"{where} is no text: {shown(content)}")
    if has_lone_surrogate(content):  # no tokenizer takes it
        raise SampleError(Reason.INVALID_RECORD, f"{where} holds half of a surrogate pair")
    return content


def _cut_at_markers(content: str, indices: Iterator[int]) -> Iterator[TextPart | ImagePart]:
    pieces = content.split(IMAGE_MARKER)
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        text = piece.lstrip() if number > 0 else piece
        text = text.rstrip() if number < last else text
        if text:
            yield TextPart(text)
        if number < last:
            yield ImagePart(next(indices))


def _with_images_in_front(turns: list[Turn], images: int) -> list[Turn]:
    pictures = tuple(ImagePart(index) for index in range(images))
    for number, turn in enumerate(turns):
        if turn.role == "user":
            return [*turns[:number], Turn("user", pictures + turn.parts), *turns[number + 1 :]]
    first = next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return [*turns[:first], Turn("user", pictures), *turns[first:]]


def _images_first(turn: Turn) -> Turn:
    images = tuple(part for part in turn.parts if isinstance(part, ImagePart))
    # Texts that an image stood between get a space, or their words would run together.
    text = " ".join(part.text for part in turn.parts if isinstance(part, TextPart))
    return Turn(turn.role, (*images, TextPart(text)) if text else images)

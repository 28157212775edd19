"""A record's conversation as turns of text and image parts: roles, and where its images stand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scalselect.dataset.content_parts import IMAGE_MARKER, ImagePlace, checked_text, content_pieces
from scalselect.dataset.record_fields import shown
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason, TextPart, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scalselect.dataset.image_values import ImageValue
    from scalselect.records import Role

    Spoken = tuple[Role, list[str | ImagePlace]]

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "observations": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}


@dataclass(frozen=True, slots=True)
class TurnTags:
    """How a turn is written.

    Attributes
    ----------
    keys
        Pairs of keys, of the role and of the content; a turn uses the first pair that it has whole.
    roles
        What the names of roles mean.
    """

    keys: tuple[tuple[str, str], ...] = (("from", "value"), ("role", "content"))
    roles: Mapping[str, Role] = field(default_factory=lambda: ROLES)


USUAL_TAGS = TurnTags()
_SPELLED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of a sample and its images in the order in which they stand; see `records.Sample`."""

    turns: tuple[Turn, ...]
    images: tuple[ImageValue, ...]
    images_in_front: bool


def read_conversation(
    turns: Sequence[Any],
    images: Sequence[ImageValue],
    *,
    system: str | None = None,
    tags: TurnTags = USUAL_TAGS,
    image_position: str = "record",
) -> Conversation:
    """Return the turns of a record, its images put where its markers stand.

    Parameters
    ----------
    turns
        The record's turns: objects with a role and a content under the keys that `tags` has.
    images
        The record's images; they fill the markers, and the image parts that bring none, in order over all turns.
    system
        A system prompt kept beside the turns; a system turn at their beginning wins over it.
    image_position
        `record` leaves images where they stand; `turn-start` moves those of each turn in front of its text.

    Raises
    ------
    SampleError
        `no_usable_turn` (no turn has any text but white space), `unknown_role`, `unsupported_content`,
        `invalid_record` or `marker_mismatch`.
    """
    spoken = [_read_turn(turn, f"turn {number}", tags) for number, turn in enumerate(turns, start=1)]
    if not spoken:
        raise SampleError(Reason.NO_USABLE_TURN, "the conversation is empty")
    if system and spoken[0][0] != "system":
        spoken.insert(0, ("system", content_pieces(checked_text(system, "the system prompt"), "the system prompt")))
    in_front = _has_no_place(spoken, images)
    placed = [Turn(role, tuple(parts)) for role, parts in _with_images(spoken)]
    standing = tuple(_in_order(spoken, images))
    if in_front:
        placed, standing = _with_images_in_front(placed, len(images)), tuple(images)
    if not any(isinstance(part, TextPart) and part.text.strip() for turn in placed for part in turn.parts):
        raise SampleError(Reason.NO_USABLE_TURN, "no turn has any text")  # with images or without: nothing to learn
    if image_position == "turn-start":
        placed = [_images_first(turn) for turn in placed]
    return Conversation(tuple(placed), standing, in_front)


def hash_of_turns(turns: Sequence[Turn]) -> str:
    """Return the hexadecimal SHA-256 over roles and parts: a text counts as itself, an image as its position."""
    spelled = [
        [turn.role, [part.text if isinstance(part, TextPart) else part.index for part in turn.parts]] for turn in turns
    ]
    encoded = _SPELLED.encode(spelled).encode()
    return hashlib.sha256(encoded).hexdigest()


def _read_turn(turn: object, where: str, tags: TurnTags) -> Spoken:
    if not isinstance(turn, dict):
        raise SampleError(Reason.INVALID_RECORD, f"{where} is no object: {shown(turn)}")
    role_key, content_key = _keys_of(turn, tags)
    if role_key not in turn:
        wanted = " nor ".join(f"`{key}`" for key, _ in tags.keys)
        raise SampleError(Reason.UNKNOWN_ROLE, f"{where} has {'neither' if len(tags.keys) > 1 else 'no'} {wanted}")
    name = turn[role_key]
    if not isinstance(name, str) or name not in tags.roles:
        raise SampleError(Reason.UNKNOWN_ROLE, f"`{role_key}` of {where}: {shown(name)}")
    content = turn.get(content_key)
    if content is None and tags.roles[name] == "assistant" and turn.get("tool_calls"):
        content = ""  # a call of a tool often comes without words
    return tags.roles[name], content_pieces(content, f"`{content_key}` of {where}")


def _keys_of(turn: dict[str, Any], tags: TurnTags) -> tuple[str, str]:
    """Return the keys this turn uses: the pair it has whole, else the one whose role is there."""
    # Tables give every turn all keys: those that are null do not make a pair whole.
    for pair in tags.keys:
        if turn.get(pair[0]) is not None and turn.get(pair[1]) is not None:
            return pair
    begun = [pair for pair in tags.keys if turn.get(pair[0]) is not None]
    there = [pair for pair in tags.keys if pair[0] in turn]
    return (begun or there or list(tags.keys))[0]


def _has_no_place(spoken: list[Spoken], images: Sequence[ImageValue]) -> bool:
    """Tell whether images go in front for want of any marker. Raises SampleError: `marker_mismatch`."""
    places = [piece for _, pieces in spoken for piece in pieces if isinstance(piece, ImagePlace)]
    own = sum(place.own is not None for place in places)
    markers = len(places) - own
    if markers == len(images):
        return False
    if places:
        beside = f" beside the {own} that content parts bring" if own else ""
        raise SampleError(Reason.MARKER_MISMATCH, f"{markers} `{IMAGE_MARKER}` markers, {len(images)} images{beside}")
    return True


def _in_order(spoken: list[Spoken], images: Sequence[ImageValue]) -> Iterator[ImageValue]:
    """Yield the images that have a place, as they stand."""
    rest = iter(images)
    for _, pieces in spoken:
        for piece in pieces:
            if isinstance(piece, ImagePlace):
                yield next(rest) if piece.own is None else piece.own


def _with_images(spoken: list[Spoken]) -> Iterator[tuple[Role, list[TextPart | ImagePart]]]:
    """Yield the turns, their images numbered as they stand."""
    number = 0
    for role, pieces in spoken:
        parts: list[TextPart | ImagePart] = []
        for piece in pieces:
            if isinstance(piece, ImagePlace):
                parts.append(ImagePart(number))
                number += 1
            else:
                parts.append(TextPart(piece))
        yield role, parts


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

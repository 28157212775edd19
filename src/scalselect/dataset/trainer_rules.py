"""What each trainer does to a row that it does not take as it is: drops it, replaces it, stops, or trains it wrongly.

Found by running each with its own loader on files with one fault; see docs/trainers.md. Here a record is looked at by
itself; what several rows do to one another is in `file_rules`. For TRL the export is judged, which it is always given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalselect.dataset.record_view import RecordView

Effect = Literal["skipped", "dropped", "replaced", "stops the run", "trained wrongly"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row, and what becomes of it.

    Attributes
    ----------
    kind
        A word for scripts.
    effect
        `skipped` by scalselect; or what the trainer does.
    """

    kind: str
    effect: Effect
    detail: str


_BAD_IMAGE: dict[str, Effect] = {
    "llava": "stops the run",
    "llamafactory": "stops the run",
    "ms-swift": "replaced",  # silently, by another row at random
    "trl": "stops the run",
}
_TOO_LONG: dict[str, Effect] = {
    "llava": "trained wrongly",  # cut, with the image
    "llamafactory": "stops the run",
    "ms-swift": "replaced",
    "trl": "stops the run",
}
_BY_REASON = {Reason.IMAGE_MISSING: _BAD_IMAGE, Reason.IMAGE_UNREADABLE: _BAD_IMAGE, Reason.TOO_LONG: _TOO_LONG}

_BY_TURNS = {"user": 0, "tool": 0, "assistant": 1}
_LLAVA_ROLES = {"human", "gpt"}
# Words that a tag of LLaMA-Factory's `dataset_info.json` can be for: of each the one that a file uses is named.
ENTRY_ROLES = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant", "bot"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}


def faults_for(trainer: str, record: RecordView) -> list[Fault]:
    """Return what a trainer would not take as it is of a record, in the order in which it meets it."""
    return list(_RULES[trainer](record))


def counted(number: int, noun: str = "row") -> str:
    """Return a number with its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def effect_of(reason: Reason, trainer: str | None) -> Effect:
    """Return what becomes of a row that scalselect skips: what a trainer does with it, where that is known.

    A row that does not fit into the memory is skipped only where that is asked for: else it stops scalselect itself.
    """
    if reason is Reason.OUT_OF_MEMORY:
        return "stops the run"
    return "skipped" if trainer is None or reason not in _BY_REASON else _BY_REASON[reason][trainer]


def _llamafactory(record: RecordView) -> Iterator[Fault]:
    dropped = _dropped_by_llamafactory(record)
    if dropped is not None:  # before anything else is looked at
        yield dropped
        return
    for number, turn in enumerate(record.turns, start=1):
        if turn.in_parts:
            yield Fault("content_parts", "stops the run", f"turn {number} has content parts, a text is wanted")
            return
    if record.image_text_empty:
        yield Fault("image_empty", "stops the run", f'`{record.image_key}` is "", which is one image without a name')
    elif record.markers != record.images:
        yield Fault("markers_not_images", "stops the run", _counts(record))
    elif record.has_null_image:
        yield Fault("image_null", "stops the run", f"`{record.image_key}` lists a null, an image is wanted")
    elif record.images_in_text:
        detail = f"names of files are wanted; image bytes in the text: {record.images_in_text} of {record.images}"
        yield Fault("image_in_text", "stops the run", detail)


def _dropped_by_llamafactory(record: RecordView) -> Fault | None:
    turns = record.turns
    if not turns:
        return Fault("empty_conversation", "dropped", "no turns")
    fault = _role_without_tag(record)
    if fault is not None:
        return fault
    if turns[0].speaker == "system":
        turns = turns[1:]
    if not turns:
        return Fault("empty_conversation", "dropped", "a system turn alone")
    fault = _order_fault(record, "dropped")
    if fault is not None:
        return fault
    if len(turns) % 2:
        return Fault("ends_with_user", "dropped", f"{counted(len(turns), 'turn')}, the last one is not the assistant's")
    return None


def _role_without_tag(record: RecordView) -> Fault | None:
    """Return which turn has a role that no tag names: of the given `dataset_info.json`, else of the one written."""
    used: dict[str, str] = {}
    for number, turn in enumerate(record.turns, start=1):
        if record.named_roles is not None:
            if turn.role not in record.named_roles:
                wanted = ", ".join(sorted(record.named_roles))
                return Fault("role_not_known", "dropped", f"turn {number} is of {turn.role!r} (wanted: {wanted})")
            continue
        tag = next((tag for tag, words in ENTRY_ROLES.items() if turn.role in words), None)
        if tag is None:
            return Fault("role_not_known", "dropped", f"turn {number} is of {turn.role!r}, which no tag is for")
        if used.setdefault(tag, turn.role or "") != turn.role:
            detail = f"turn {number} is of {turn.role!r}, an earlier one of {used[tag]!r}: one word is taken"
            return Fault("role_not_known", "dropped", detail)
    return None


def _ms_swift(record: RecordView) -> Iterator[Fault]:
    spoken = [turn for turn in record.turns if turn.speaker != "system"]
    if not spoken:
        yield Fault("empty_conversation", "dropped", "no turns but a system turn" if record.turns else "no turns")
        return
    if spoken[0].speaker == "assistant":
        yield Fault("starts_with_assistant", "trained wrongly", "an empty user turn is put in front")
    if spoken[-1].speaker == "user":
        yield Fault("ends_with_user", "trained wrongly", "the last turn is trained with an open end")
    if record.has_null_image:
        yield Fault("image_null", "replaced", f"`{record.image_key}` lists a null: another row is trained")
    elif record.markers > record.images:
        if record.markers_in_answers:
            yield Fault("marker_in_answer", "stops the run", _counts(record))
        else:
            yield Fault("marker_without_image", "trained wrongly", f"{_counts(record)}: the literal text is trained")


def _trl(record: RecordView) -> Iterator[Fault]:
    """Yield what is wrong with the export for TRL, which has roles, images and places of images of its own form."""
    if not record.turns:
        yield Fault("empty_conversation", "trained wrongly", "no turns: a row without any token")
    elif record.markers_in_answers:
        yield Fault("marker_in_answer", "stops the run", "an image in a turn of the assistant")
    elif record.markers > record.images:
        yield Fault("marker_without_image", "stops the run", _counts(record))


def _llava(record: RecordView) -> Iterator[Fault]:
    if not record.turns:
        yield Fault("empty_conversation", "stops the run", "no turns")
        return
    for number, turn in enumerate(record.turns, start=1):
        if turn.speaker == "system":
            yield Fault("system_turn", "stops the run", f"turn {number} is a system turn, which has no role there")
            return
        if turn.style != "from" or turn.role not in _LLAVA_ROLES or turn.in_parts:
            detail = f"turn {number} of {turn.role!r} is no text of `human` or `gpt` under `from`"
            yield Fault("role_not_known", "stops the run", detail)
            return
    fault = _order_fault(record, "stops the run")
    if record.turns[0].speaker == "assistant":
        yield Fault("starts_with_assistant", "trained wrongly", "the first turn is left out")
    elif fault is not None:
        yield fault
    elif record.turns[-1].speaker == "user":
        yield Fault("ends_with_user", "trained wrongly", "nothing of the row is learnt")
    yield from _images_in_llava(record)


def _images_in_llava(record: RecordView) -> Iterator[Fault]:
    if record.image_key is not None and record.image_key != "image":
        if record.images:
            detail = f"`{record.image_key}` is not read there, `image` is: the row is trained without its image"
            yield Fault("image_key_not_read", "trained wrongly", detail)
        return
    if record.image_kind in {"null", "empty", "list", "object", "other"}:
        detail = f"`image` is {_IMAGE_WORDS[record.image_kind]}, one path is wanted, or no `image` at all"
        yield Fault(f"image_{record.image_kind}", "stops the run", detail)
        return
    turns = sum(turn.markers > 0 for turn in record.turns)  # several markers of a turn become one
    if record.images and not turns:
        yield Fault("image_without_marker", "trained wrongly", "trained without the image, silently")
    elif turns and not record.images:
        yield Fault("marker_without_image", "trained wrongly", "the literal text `<image>` is trained")
    elif turns > record.images:
        detail = f"{_counts(record)}: the image of another row is taken, or the run stops"
        yield Fault("marker_in_answer" if record.markers_in_answers else "marker_twice", "trained wrongly", detail)


_IMAGE_WORDS = {
    "null": "null",
    "empty": "empty",
    "list": "a list",
    "object": "an object",
    "other": "no text",
}


def _order_fault(record: RecordView, effect: Effect) -> Fault | None:
    """Return which turn is out of order; None where user and assistant take turns, the user first."""
    turns = record.turns[1:] if record.turns[:1] and record.turns[0].speaker == "system" else record.turns
    for number, turn in enumerate(turns):
        if turn.speaker is None or _BY_TURNS.get(turn.speaker) != number % 2:
            if number == 0 and turn.speaker == "assistant":
                return Fault("starts_with_assistant", effect, "the first turn is the assistant's")
            where = number + 1 + len(record.turns) - len(turns)
            return Fault("roles_not_alternating", effect, f"turn {where} is out of order: {turn.role!r}")
    return None


def _counts(record: RecordView) -> str:
    return f"`<image>` stands {counted(record.markers, 'time')}, for {counted(record.images, 'image')}"


_RULES: dict[str, Callable[[RecordView], Iterator[Fault]]] = {
    "llava": _llava,
    "llamafactory": _llamafactory,
    "ms-swift": _ms_swift,
    "trl": _trl,
}

"""Samples as JSON that trainers read without being told more: message records, and LLaVA's own records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scalselect.dataset.content_parts import IMAGE_MARKER
from scalselect.records import TextPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.records import Sample, Turn

_LLAVA_ROLES = {"user": "human", "assistant": "gpt"}


def message_record(sample: Sample, paths: Sequence[str]) -> dict[str, Any]:
    """Return a record with `messages` of `role` and `content`, and `images`, a list of paths.

    Parameters
    ----------
    paths
        Where the images of the sample lie, in the order of `Sample.images`.
    """
    messages = [{"role": turn.role, "content": _text(turn)} for turn in sample.turns]
    return {**_id(sample), "messages": messages, "images": [paths[index] for index in _shown(sample)]}


def llava_record(sample: Sample, paths: Sequence[str]) -> dict[str, Any]:
    """Return a record with `conversations` of `human` and `gpt`, and `image`, which a text-only row does not have.

    The sample must be one that LLaVA can be given; see `why_not_llava`.
    """
    turns = [{"from": _LLAVA_ROLES[turn.role], "value": _text(turn)} for turn in sample.turns]
    return {**_id(sample), **({"image": paths[0]} if paths else {}), "conversations": turns}


def why_not_llava(sample: Sample) -> str | None:
    """Return why LLaVA's trainer would stop at a sample or learn nothing of it; None for one that it trains on.

    Returns
    -------
    str or None
        `several_images`; `system_turn`, `tool_turn`; `no_user_turn`, `roles_not_alternating`, `ends_with_user`. A
        first turn of the assistant is no reason: the trainer leaves it out, and trains on the rest.
    """
    if len(sample.images) > 1:
        return "several_images"
    roles = [turn.role for turn in sample.turns]
    other = next((role for role in roles if role not in _LLAVA_ROLES), None)
    if other is not None:
        return f"{other}_turn"
    if "user" not in roles:
        return "no_user_turn"
    kept = roles[1:] if roles[0] == "assistant" else roles
    if any(role != ("user", "assistant")[number % 2] for number, role in enumerate(kept)):
        return "roles_not_alternating"
    return "ends_with_user" if kept[-1] == "user" else None


def id_of(sample: Sample) -> str | None:
    """Return the id of a sample as a string; None for a null, which is no name, and where there is none."""
    return None if sample.identity.id_type == "null" else sample.identity.id


def encoded(record: dict[str, Any]) -> bytes:
    """Return a record as one line of JSON in UTF-8."""
    return json.dumps(record, ensure_ascii=False).encode()


def _shown(sample: Sample) -> list[int]:
    return [part.index for turn in sample.turns for part in turn.parts if not isinstance(part, TextPart)]


def _text(turn: Turn) -> str:
    """Return a turn as one text, a marker for every image, on a line of its own."""
    return "\n".join(part.text if isinstance(part, TextPart) else IMAGE_MARKER for part in turn.parts)


def _id(sample: Sample) -> dict[str, str | None]:
    return {} if sample.identity.id_type == "absent" else {"id": id_of(sample)}

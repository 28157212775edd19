"""What a consumer must make of a subset: rows, ids, rendered texts and pictures, told from the subset file alone.

The texts are stated by hand, from what each trainer's template is documented to print, and from none of its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from integrations.consumers.reporting import pixels_of

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "<image>"
ROLES = {"human": "user", "gpt": "assistant"}
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Conversation:
    """One record of a subset.

    Attributes
    ----------
    id
        As recorded.
    turns
        Role (`system`, `user` or `assistant`) and text of each, markers in place.
    images
        Digest of each picture, None where there is no such picture.
    """

    id: object
    turns: tuple[tuple[str, str], ...]
    images: tuple[str | None, ...]


@dataclass(frozen=True)
class Expected:
    """What a consumer must report of one row; `text` with its white space collapsed."""

    id: object
    text: str
    images: tuple[str | None, ...]


def conversation(record: dict[str, Any], folder: Path) -> Conversation:
    """Read a record in LLaVA format or as messages; `folder` is where its relative pictures lie."""
    named = record.get("images", record.get("image")) or []
    turns = [
        (turn.get("from", turn.get("role")), turn.get("value", turn.get("content")))
        for turn in record.get("conversations", record.get("messages"))
    ]
    return Conversation(
        record.get("id"),
        tuple((ROLES.get(role, role), text) for role, text in turns),
        tuple(_pixels(image, folder) for image in (named if isinstance(named, list) else [named])),
    )


def collapsed(text: str) -> str:
    """Return `text` with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def as_llamafactory(one: Conversation) -> str:
    """Render as LLaMA-Factory's template `llava`: Vicuna's, a picture where its marker stands."""
    texts = [text for _, text in one.turns]
    system = texts.pop(0) if one.turns[0][0] == "system" else VICUNA_SYSTEM
    return " ".join([system, *_vicuna_rounds(texts, between=" ")])


def as_swift(one: Conversation) -> str:
    """Render as ms-swift's template `llava1_5_hf`: Vicuna's without its system text, nothing between the rounds."""
    texts = [text for _, text in one.turns]
    system = texts.pop(0) + " " if one.turns[0][0] == "system" else ""
    return "<s>" + system + "".join(_vicuna_rounds(texts, between="\n"))


def as_trl(one: Conversation) -> str:
    """Render as the checkpoint's own template, which TRL uses: in each turn the pictures first, then its texts."""
    printed = []
    for role, text in one.turns:
        pieces = [piece.strip() for piece in text.split(MARKER)]
        shown = [MARKER] * (len(pieces) - 1) + [piece for piece in pieces if piece]
        printed += [*([] if role == "system" else [f"{role.upper()}:"]), *shown]
    return " ".join(printed)


def as_recorded(one: Conversation) -> str:
    """Render for readers that have no template: roles and texts, one after the other."""
    return " ".join(f"{role}: {text}" for role, text in one.turns)


def _vicuna_rounds(texts: list[str], between: str) -> list[str]:
    """Return each question with its answer; the last without, where there is none."""
    rounds = []
    for question, answer in zip_longest(texts[::2], texts[1::2]):
        rounds.append(f"USER: {question}{between}ASSISTANT:" + ("" if answer is None else f" {answer}</s>"))
    return rounds


def _pixels(image: str | dict[str, Any], folder: Path) -> str | None:
    if isinstance(image, dict):
        return pixels_of(image)
    path = folder / image
    return pixels_of(str(path)) if path.is_file() else None

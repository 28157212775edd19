"""What an entry of LLaMA-Factory's `dataset_info.json` names once for a whole file: one key of turns, one word a role.

The entry that is written names the words that most records use, so that a file needs no particular ones; what it cannot
do is to name two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalselect.dataset.trainer_rules import ENTRY_ROLES, Fault, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalselect.dataset.record_view import RecordView

_TURNS, _STYLE, _IMAGES = "turns", "turn style", "images"


def entry_tags(role: str, content: str, roles: Sequence[str]) -> dict[str, str]:
    """Return the tags of an entry for turns of these keys.

    Parameters
    ----------
    roles
        The roles as written, most frequent first.
    """
    default = 0 if role == "from" else 1
    named = {
        tag: next((word for word in roles if word in words), words[min(default, len(words) - 1)])
        for tag, words in ENTRY_ROLES.items()
    }
    return {"role_tag": role, "content_tag": content, **named}


@dataclass(slots=True)
class EntryWords:
    """What the records of a file use of each thing that an entry names once. Grows with words, not with rows.

    Attributes
    ----------
    used
        Thing, such as `user_tag`, to word to the number of rows that use it and the first of them.
    """

    used: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, row: int, record: RecordView) -> None:
        """Take in a record; one that a `dataset_info.json` describes has nothing to tell."""
        if record.named_roles is not None:
            return
        words = {(_TURNS, record.turns_key)} if record.turns_key else set()
        if record.images and record.image_key and record.image_kind not in ("null", "empty"):
            words.add((_IMAGES, record.image_key))
        for turn in record.turns:
            words.add((_STYLE, turn.style or ""))
            words.update((tag, turn.role) for tag, known in ENTRY_ROLES.items() if turn.role in known)
        for thing, word in words:
            if word:
                self._note(thing, word, 1, row)

    def merge(self, other: EntryWords) -> None:
        """Take in what was found of other rows."""
        for thing, words in other.used.items():
            for word, (number, row) in words.items():
                self._note(thing, word, number, row)

    def faults(self) -> Iterator[Fault]:
        """Yield what one entry cannot name."""
        for thing, words in sorted(self.used.items()):
            if len(words) < 2:  # noqa: PLR2004
                continue
            told = _listed(words)
            if thing == _TURNS:
                yield Fault("turns_under_two_keys", "dropped", f"turns are under {told}: one key is read")
            elif thing == _STYLE:
                yield Fault("turns_in_two_styles", "dropped", f"roles are under {told}: one key is read")
            elif thing == _IMAGES:
                yield Fault("images_under_two_keys", "stops the run", f"images are under {told}: one key is read")
            else:
                yield Fault("role_in_two_words", "dropped", f"one role is {told}: one word is taken")

    def _note(self, thing: str, word: str, number: int, row: int) -> None:
        words = self.used.setdefault(thing, {})
        known, first = words.get(word, (0, row))
        words[word] = (known + number, min(first, row))


def _listed(words: dict[str, tuple[int, int]]) -> str:
    ordered = sorted(words.items(), key=lambda pair: (-pair[1][0], pair[1][1]))
    return ", ".join(f"`{word}` in {counted(number)} (first: {row})" for word, (number, row) in ordered)

"""How a record keeps its conversation: as a list of turns, a question and its answer, or prompt and completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from scalselect.dataset.content_parts import checked_text
from scalselect.dataset.record_fields import decode_field, shown
from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from scalselect.dataset.record_fields import Fields

_PAIR = 2
# Of a turn that is a whole round, as in the `conversation` of ms-swift: keys of the question and of the answer.
_QUESTION_KEYS = ("human", "user")
_ANSWER_KEYS = ("assistant", "gpt", "bot")


class TurnSource(Protocol):
    """Where the turns of a record are.

    Attributes
    ----------
    signatures
        Groups of keys; a record that has all of one group is taken to keep its turns this way.
    """

    @property
    def signatures(self) -> tuple[tuple[str, ...], ...]: ...  # noqa: D102  see the class

    def turns(self, fields: Fields) -> list[Any]:
        """Return the turns, objects of role and content. Raises SampleError: `no_usable_turn`, `invalid_record`."""
        ...


@dataclass(frozen=True, slots=True)
class TurnList:
    """A list of turns under one of some keys, the usual one first.

    With `rounds`, an object that has question and answer (`{"human": ..., "assistant": ...}`) counts as two turns.
    """

    keys: tuple[str, ...]
    rounds: bool = True

    @property
    def signatures(self) -> tuple[tuple[str, ...], ...]:
        """Each key by itself."""
        return tuple((key,) for key in self.keys)

    def turns(self, fields: Fields) -> list[Any]:
        """Return the turns as recorded; see `TurnSource`."""
        for key in self.keys:
            turns = decode_field(fields, key)
            if isinstance(turns, list):
                return [each for turn in turns for each in _turns_of_round(turn)] if self.rounds else turns
            if turns is not None:
                inside = isinstance(turns, str) and turns.lstrip().startswith(("[", "{"))
                hint = " (is it JSON inside a string? Store the list itself)" if inside else ""
                raise SampleError(Reason.INVALID_RECORD, f"`{key}` is no list of turns: {shown(turns)}{hint}")
        raise SampleError(Reason.NO_USABLE_TURN, f"no conversation under `{self.keys[0]}`")


@dataclass(frozen=True, slots=True)
class QuestionAndAnswer:
    """Texts under keys of their own: earlier rounds, a question (its non-empty texts one a line), an answer.

    Attributes
    ----------
    question_keys
        Keys of the texts that make up the question.
    answer_key
        Key of the answer; null there, or None here, means that there is none.
    history_key
        Key of the earlier rounds, each a pair of question and answer; None where the format has none.
    """

    question_keys: tuple[str, ...]
    answer_key: str | None
    history_key: str | None

    @property
    def signatures(self) -> tuple[tuple[str, ...], ...]:
        """The first key of the question together with that of the answer."""
        return ((*self.question_keys[:1], *([self.answer_key] if self.answer_key else [])),)

    def turns(self, fields: Fields) -> list[Any]:
        """Return the rounds as turns; see `TurnSource`."""
        if not any(key in fields for key in (*self.question_keys, self.answer_key)):
            raise SampleError(Reason.NO_USABLE_TURN, f"no question under `{self.question_keys[0]}`")
        turns = self._history(fields)
        texts = [_text(fields, key) for key in self.question_keys]
        turns.append({"role": "user", "content": "\n".join(text for text in texts if text)})
        answer = _text(fields, self.answer_key) if self.answer_key else None
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        return turns

    def _history(self, fields: Fields) -> list[Any]:
        rounds = decode_field(fields, self.history_key) if self.history_key else None
        if rounds is None or rounds == "":
            return []
        where = f"`{self.history_key}`"
        if not isinstance(rounds, list):
            raise SampleError(Reason.INVALID_RECORD, f"{where} is no list of rounds: {shown(rounds)}")
        turns = []
        for number, spoken in enumerate(rounds, start=1):
            if not isinstance(spoken, list) or len(spoken) != _PAIR:
                detail = f"round {number} of {where} is no pair of question and answer: {shown(spoken)}"
                raise SampleError(Reason.INVALID_RECORD, detail)
            for role, text in zip(("user", "assistant"), spoken, strict=True):
                if text is not None:
                    turns.append({"role": role, "content": checked_text(text, f"round {number} of {where}")})
        return turns


@dataclass(frozen=True, slots=True)
class PromptAndCompletion:
    """A prompt and its completion, each a list of turns or one text."""

    prompt_key: str = "prompt"
    completion_key: str = "completion"

    @property
    def signatures(self) -> tuple[tuple[str, ...], ...]:
        """Both keys together."""
        return ((self.prompt_key, self.completion_key),)

    def turns(self, fields: Fields) -> list[Any]:
        """Return the turns of both, one after the other; see `TurnSource`."""
        turns: list[Any] = []
        for key, role in ((self.prompt_key, "user"), (self.completion_key, "assistant")):
            value = decode_field(fields, key)
            if isinstance(value, list):
                turns += value
            elif value is not None:
                turns.append({"role": role, "content": checked_text(value, f"`{key}`")})
        if not turns:
            detail = f"nothing under `{self.prompt_key}` and `{self.completion_key}`"
            raise SampleError(Reason.NO_USABLE_TURN, detail)
        return turns


def _turns_of_round(turn: object) -> list[Any]:
    """Return the two turns of an object that is a whole round, and anything else as it is."""
    if not isinstance(turn, dict) or turn.get("role") is not None or turn.get("from") is not None:
        return [turn]
    question = next((key for key in _QUESTION_KEYS if turn.get(key) is not None), None)
    answer = next((key for key in _ANSWER_KEYS if turn.get(key) is not None), None)
    if question is None or answer is None:
        return [turn]
    return [{"role": "user", "content": turn[question]}, {"role": "assistant", "content": turn[answer]}]


def _text(fields: Fields, key: str) -> str | None:
    value = decode_field(fields, key)
    return None if value is None else checked_text(value, f"`{key}`")

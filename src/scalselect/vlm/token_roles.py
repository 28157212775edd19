"""Which token of a sequence is instruction, vision or response: spans carried through the chat template.

Texts are never searched for. Every text part of the conversation is wrapped in two private-use characters (its
marks), the chat template renders the conversation, the marks are taken out again while their places are noted, and
the result must equal the plain rendering. The spans are then moved past the placeholders that the processor expands,
and reach tokens through the tokenizer's character offsets. For a padded batch of two (LLaVA template, `#` padding)::

    tokens       <s> USER : <image> <image> <image> What ? ASS IST ANT : A cat </s>
    vision        .    .  .    V       V       V      .  .  .   .   .  .  .  .   .
    instruction   .    .  .    .       .       .      U  U  .   .   .  .  .  .   .       (`user`)
    instruction   U    U  U    .       .       .      U  U  U   U   U  U  .  .   U       (`non-assistant`)
    response      .    .  .    .       .       .      .  .  .   .   .  .  A  A   .

    tokens       <s> USER : Hi ! ASS IST ANT : Hello </s>  #  #  #  #     padding has no role, on either side

A token belongs to a text when it contains at least one non-space character of it (method, stage 0).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from scalselect.records import Turn

_NON_SPACE = re.compile(r"\S+")
_OPENING_PLANE = 0xF0000  # private use, plane 15: opening marks, one code point a text part
_CLOSING_PLANE = 0x100000  # private use, plane 16: closing marks
_PLANE_SIZE = 0xFFFE


@dataclass(frozen=True, slots=True)
class RenderedConversation:
    """What the chat template made of a conversation.

    Attributes
    ----------
    text
        The prompt, one placeholder an image.
    user_spans, assistant_spans
        Character spans [start, stop) of the texts of user and assistant turns, ends without white space.
    escaped
        Number of special tokens that texts spelled out and that were defused.
    """

    text: str
    user_spans: tuple[tuple[int, int], ...]
    assistant_spans: tuple[tuple[int, int], ...]
    escaped: int


@dataclass(frozen=True, slots=True, eq=False)
class TokenRoles:
    """Roles of the tokens of one sequence; boolean arrays [sequence]."""

    vision: NDArray[np.bool_]
    user: NDArray[np.bool_]
    response: NDArray[np.bool_]

    def instruction(self, definition: str) -> NDArray[np.bool_]:
        """Return the instruction tokens by one of the two definitions of the method, stage 1 (`U`)."""
        if definition == "user":
            return self.user & ~self.vision
        return ~(self.vision | self.response)


class SpecialTokenEscaper:
    """Defuses texts that spell out a special token of the model, so that they stay text.

    A space after the first character breaks the spelling; nothing else of the text changes.
    """

    def __init__(self, special_tokens: Iterable[str]) -> None:
        # Longest first: where one token starts with another, the longer one is what the tokenizer would see.
        tokens = sorted({token for token in special_tokens if token.strip()}, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, tokens))) if tokens else None

    def __call__(self, text: str) -> tuple[str, int]:
        """Return the harmless text and the number of places that were changed."""
        if self._pattern is None:
            return text, 0
        return self._pattern.subn(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def of_turn(self, texts: Sequence[str]) -> tuple[list[str], int]:
        """Return the texts of one turn, of which a template may write one right behind the other, and that number."""
        whole = "".join(texts)
        safe, places = self(whole)
        if not places:
            return list(texts), 0
        added = np.asarray([start + 1 for start, _ in self.spelled_out(whole)])
        ends = np.cumsum([len(text) for text in texts])
        cuts = [0, *(ends + np.searchsorted(added, ends, side="right")).tolist()]
        return [safe[start:stop] for start, stop in itertools.pairwise(cuts)], places

    def spelled_out(self, text: str) -> list[tuple[int, int]]:
        """Return where special tokens stand in a text, [start, stop) each."""
        return [] if self._pattern is None else [found.span() for found in self._pattern.finditer(text)]


def render_conversation(
    processor: Any, turns: Sequence[Turn], *, escape: SpecialTokenEscaper, chat_template: str | None
) -> RenderedConversation:
    """Render a conversation with the processor's own chat template and trace its texts.

    Raises
    ------
    SampleError
        `template_refused` with the template's message; `spans_lost` where the template rewrites texts, or where they
        are part of a special token as it wrote them.
    """
    plain, escaped = _as_messages(turns, escape)
    marked, roles = _with_marks(plain)
    text = _apply_template(processor, plain, chat_template)
    stripped, spans = _take_marks_out(_apply_template(processor, marked, chat_template), len(roles))
    if stripped != text or len(spans) != len(roles):
        raise SampleError(Reason.SPANS_LOST, "the chat template rewrites the texts of this conversation")
    if _overlap(spans, escape.spelled_out(text)):
        raise SampleError(Reason.SPANS_LOST, "a text becomes part of a special token where the template puts it")
    by_role = {wanted: tuple(spans[i] for i, role in enumerate(roles) if role == wanted) for wanted in set(roles)}
    return RenderedConversation(text, by_role.get("user", ()), by_role.get("assistant", ()), escaped)


def behind_added_text(
    rendered: RenderedConversation, replacements: Sequence[dict[str, Any]], placeholder: str
) -> RenderedConversation:
    """Move the spans of a conversation behind what the processor wrote in front of it, as Janus's a system prompt.

    Parameters
    ----------
    replacements
        As in `roles_of_tokens`.
    placeholder
        What stands for an image in the rendered text.

    Raises
    ------
    SampleError
        `spans_lost` where the processor changed the text otherwise.
    """
    starts = [found.start() for found in re.finditer(re.escape(placeholder), rendered.text)]
    moved = {item["span"][0] - start for item, start in zip(replacements, starts, strict=False)}
    if len(replacements) != len(starts) or len(moved) > 1 or min(moved, default=0) < 0:
        raise SampleError(Reason.SPANS_LOST, "the processor rewrites the text of this conversation")
    added = max(moved, default=0)
    return replace(
        rendered,
        text=" " * added + rendered.text,
        user_spans=tuple((start + added, stop + added) for start, stop in rendered.user_spans),
        assistant_spans=tuple((start + added, stop + added) for start, stop in rendered.assistant_spans),
    )


def roles_of_tokens(
    rendered: RenderedConversation,
    replacements: Sequence[dict[str, Any]],
    offsets: NDArray[np.int64],
    is_vision: NDArray[np.bool_],
) -> TokenRoles:
    """Carry the spans of a rendered conversation to its tokens.

    Parameters
    ----------
    replacements
        The processor's `text_replacement_offsets` of this text: `span` before, `new_span` after the expansion,
        `replacement` what stands there.
    offsets
        Character span of every token in the expanded text, int64 [sequence, 2].
    is_vision
        Tokens that are image placeholders, bool [sequence].
    """
    length = len(rendered.text)
    if replacements:
        length += replacements[-1]["new_span"][1] - replacements[-1]["span"][1]
    ends = np.asarray([item["span"][1] for item in replacements], dtype=np.int64)
    gained = np.asarray([0, *(item["new_span"][1] - item["span"][1] for item in replacements)], dtype=np.int64)
    expanded = np.zeros(length, dtype=np.bool_)
    for item in replacements:
        for word in _NON_SPACE.finditer(item["replacement"]):
            expanded[item["new_span"][0] + word.start() : item["new_span"][0] + word.end()] = True

    def tokens_with(spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
        inside = np.zeros(length + 1, dtype=np.int64)
        for start, stop in spans:
            shift = int(gained[np.searchsorted(ends, start, side="right")])
            for word in _NON_SPACE.finditer(rendered.text, start, stop):
                inside[word.start() + shift + 1 : word.end() + shift + 1] = 1
        count = np.cumsum(inside)  # [characters + 1]; non-space characters of these texts before each place
        return count[offsets[:, 1]] > count[offsets[:, 0]]  # [sequence]

    # Whatever placeholder expansion wrote (tags and row markers included) belongs to no text.
    produced = np.concatenate([[0], np.cumsum(expanded)])
    from_image = produced[offsets[:, 1]] > produced[offsets[:, 0]]
    user, response = tokens_with(rendered.user_spans), tokens_with(rendered.assistant_spans)
    return TokenRoles(vision=is_vision, user=user & ~from_image, response=response & ~from_image)


def _as_messages(turns: Sequence[Turn], escape: SpecialTokenEscaper) -> tuple[list[dict[str, Any]], int]:
    messages, escaped = [], 0
    for turn in turns:
        texts, places = escape.of_turn([part.text for part in turn.parts if not isinstance(part, ImagePart)])
        escaped += places
        rest = iter(texts)
        content = [
            {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": next(rest)}
            for part in turn.parts
        ]
        messages.append({"role": turn.role, "content": content})
    return messages, escaped


def _overlap(spans: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    """Tell whether any span shares a character with one of the others; each kind in order and apart."""
    starts, stops = (np.asarray([span[i] for span in sorted(spans)], dtype=np.int64) for i in (0, 1))
    for start, stop in others:
        number = int(np.searchsorted(stops, start, side="right"))  # the first span that ends behind the start
        if number < len(starts) and starts[number] < stop:
            return True
    return False


def _with_marks(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the messages with each text part marked, and the role of each marked part.

    The marks stand inside leading and trailing white space, so a template that strips texts still strips them.
    """
    taken = {ord(char) for message in messages for part in message["content"] for char in part.get("text", "")}
    if any(code >= _OPENING_PLANE for code in taken):
        raise SampleError(Reason.SPANS_LOST, "a text holds private-use characters of the planes 15 or 16")
    marked: list[dict[str, Any]] = []
    roles: list[str] = []
    for message in messages:
        content = []
        for part in message["content"]:
            core = part.get("text", "").strip()
            if core:
                if len(roles) >= _PLANE_SIZE:
                    raise SampleError(Reason.TOO_LONG, f"more than {_PLANE_SIZE:,} text parts")
                lead, _, trail = part["text"].partition(core)
                opening, closing = chr(_OPENING_PLANE + len(roles)), chr(_CLOSING_PLANE + len(roles))
                content.append({"type": "text", "text": f"{lead}{opening}{core}{closing}{trail}"})
                roles.append(message["role"])
            else:
                content.append(part)
        marked.append({"role": message["role"], "content": content})
    return marked, roles


def _take_marks_out(text: str, parts: int) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without marks and the span of each part; fewer spans than parts where marks were lost."""
    pieces: list[str] = []
    starts, stops = [-1] * parts, [-1] * parts
    length = before = 0
    for mark in re.finditer(f"[{chr(_OPENING_PLANE)}-{chr(0x10FFFF)}]", text):
        pieces.append(text[before : mark.start()])
        length += mark.start() - before
        before = mark.end()
        code = ord(mark[0])
        number = code - (_CLOSING_PLANE if code >= _CLOSING_PLANE else _OPENING_PLANE)
        places = stops if code >= _CLOSING_PLANE else starts
        if number >= parts or places[number] != -1:  # a template that prints a text twice
            return text, []
        places[number] = length
    pieces.append(text[before:])
    spans = [(start, stop) for start, stop in zip(starts, stops, strict=True) if 0 <= start < stop]
    return "".join(pieces), spans


def _apply_template(processor: Any, messages: list[dict[str, Any]], chat_template: str | None) -> str:
    try:
        rendered = processor.apply_chat_template(
            messages, chat_template=chat_template, tokenize=False, add_generation_prompt=False
        )
    except (
        TemplateError,
        TypeError,
        LookupError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        message = str(error).strip() or type(error).__name__
        raise SampleError(Reason.TEMPLATE_REFUSED, message) from error
    return str(rendered)

"""Sample conversations that cover what token roles depend on, ready to be made samples over given pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scalselect.records import Role

END_OF_TURN = {"llava": "</s>", "qwen2_5_vl": "<|im_end|>", "qwen3_vl": "<|im_end|>"}


@dataclass(frozen=True)
class Conversation:
    """Turns without pictures yet; `name` says what it is there for."""

    name: str
    turns: tuple[Turn, ...]

    @property
    def images(self) -> int:
        return sum(isinstance(part, ImagePart) for turn in self.turns for part in turn.parts)


def sample_conversations() -> list[Conversation]:
    """Return conversations without any special token in their texts."""
    image, second = ImagePart(0), ImagePart(1)
    return [
        _talk("single turn", ["user", image, "What is in the picture?"], ["assistant", "A red circle."]),
        _talk(
            "several turns",
            ["user", image, "Is there a circle?"],
            ["assistant", "Yes, one circle."],
            ["user", "Which colour is it?"],
            ["assistant", "Red, I think."],
            ["user", "Is it larger than the square?"],
            ["assistant", "It is smaller."],
        ),
        _talk(
            "two images in one turn",
            ["user", "Compare this", image, "with the next", second, "and say which is darker."],
            ["assistant", "The second."],
        ),
        _talk(
            "two images in different turns",
            ["user", image, "Describe the image in detail."],
            ["assistant", "Two shapes on a gradient."],
            ["user", second, "And what about this one?"],
            ["assistant", "Three shapes."],
        ),
        _talk("single-word answer", ["user", image, "Is the shape blue?"], ["assistant", "No"]),
        _talk(
            "answer word stands in the question",
            ["user", image, "Answer yes or No: No square is to be seen, No?"],
            ["assistant", "No"],
            ["user", "Is it No or yes?"],
            ["assistant", "yes"],
        ),
        _talk(
            "repeated answers",
            ["user", image, "Is there a square?"],
            ["assistant", "Yes."],
            ["user", "Is there a circle?"],
            ["assistant", "Yes."],
            ["user", "Is there a triangle?"],
            ["assistant", "Yes."],
        ),
        _talk(
            "system turn",
            ["system", "Be brief; name colours only."],
            ["user", image, "Which colour is the shape?"],
            ["assistant", "Blue."],
        ),
        _talk(
            "unicode",
            [
                "user",
                image,
                "Où est le café? \N{GRINNING FACE} 这是什么\N{FULLWIDTH QUESTION MARK} cafe\N{COMBINING ACUTE ACCENT}",
            ],
            ["assistant", "Là-bas \N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4} 圆形"],
            ["user", "\N{WAVING WHITE FLAG}\N{VARIATION SELECTOR-16}\N{ZERO WIDTH JOINER}\N{RAINBOW}?"],
            ["assistant", "Ja."],
        ),
        _talk(
            "spaces and line breaks",
            ["user", image, "What  is\n\nthis?\n- a shape\n\t- a  line \n"],
            ["assistant", "  A shape.\n\nNothing else. "],
            ["user", "  And  now?\n"],
            ["assistant", "\nStill  a shape."],
        ),
        _talk("no user text", ["user", image], ["assistant", "A caption of the picture."]),
        _talk("question before its image", ["user", "What is this?", image], ["assistant", "A square."]),
        _talk(
            "ends with a user turn",
            ["user", image, "How many shapes?"],
            ["assistant", "Two of them."],
            ["user", "Are you sure?"],
        ),
    ]


def single_questions() -> list[Conversation]:
    """Return those of `sample_conversations` that are one question and its answer, and questions of several lengths."""
    fitting = [
        conversation
        for conversation in sample_conversations()
        if [turn.role for turn in conversation.turns] == ["user", "assistant"]
    ]
    image = ImagePart(0)
    return [
        *fitting,
        _talk("no answer", ["user", image, "How many shapes are there?"]),
        _talk("one word", ["user", image, "caption"], ["assistant", "A circle and a square."]),
        _talk(
            "lines", ["user", image, "What  is\n\nthis?\n- a shape\n\t- a  line "], ["assistant", "  A shape.\n\nYes."]
        ),
        _talk(
            "characters", ["user", image, "Où est le café? \N{GRINNING FACE} 这是什么"], ["assistant", "Là-bas 圆形"]
        ),
        _talk("long", ["user", image, "Is it red? " * 12], ["assistant", "No, it is larger, darker and older. " * 3]),
    ]


def special_token_conversation(family: str) -> Conversation:
    """Return one whose texts spell out the model's end of turn: the reference does not handle escaping."""
    literal = END_OF_TURN[family]
    return _talk(
        "literal special token",
        ["user", ImagePart(0), f"What does {literal} mean here?"],
        ["assistant", f"{literal} ends a turn."],
    )


def as_samples(conversations: Sequence[Conversation], pictures: Sequence[Path]) -> list[Sample]:
    """Return samples of rows 0 to n - 1; pictures are dealt out in turn, from the first again when they run out."""
    samples, dealt = [], 0
    for row, conversation in enumerate(conversations):
        chosen = [pictures[(dealt + number) % len(pictures)] for number in range(conversation.images)]
        dealt += conversation.images
        sample = Sample(
            identity=RowIdentity(row=row, source="sample", id=f"sample-{row}", id_type="string"),
            turns=conversation.turns,
            images=tuple(ImageReference(text=path.name, path=str(path)) for path in chosen),
            images_in_front=False,
            text_sha256=hashlib.sha256(repr(conversation.turns).encode()).hexdigest(),
        )
        samples.append(sample)
    return samples


def _talk(name: str, *turns: list[Role | str | ImagePart]) -> Conversation:
    """Write a conversation down as lists of a role and its parts."""
    parts = [tuple(TextPart(part) if isinstance(part, str) else part for part in turn[1:]) for turn in turns]
    return Conversation(name, tuple(Turn(turn[0], part) for turn, part in zip(turns, parts, strict=True)))

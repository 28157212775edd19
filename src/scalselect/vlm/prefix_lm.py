"""Models whose image and instruction form a prefix that sees itself in both directions: PaliGemma.

The chat template renders the question alone, and the processor lays the input out (two images, `#` the newline)::

    tokens        <image> <image> <image> <image> <bos> what is this ? #    A cat <eos>
    vision           V       V       V       V      .    .   .   .   . .    .  .    .
    instruction      .       .       .       .      .    U   U   U   U .    .  .    .    (`user`)
    instruction      .       .       .       .      U    U   U   U   U U    .  .    .    (`non-assistant`)
                  `---------------- prefix, type 0 ---------------------'  `-- suffix, type 1

Every token of the prefix attends to the whole prefix, so the rows of vision tokens depend on the instruction, and
nothing of the prefix attends to the suffix. The answer with its end of sequence is the suffix, and no part of the
instruction in either definition: it can change nothing that is read, and is left out of the pass. A second question
would have to stand behind the first answer, where the model was never trained to find one: such rows are skipped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scalselect.errors import SampleError
from scalselect.records import Reason, TextPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.records import Turn
    from scalselect.vlm.token_roles import RenderedConversation

PREFIX_LM_FAMILIES = ("paligemma",)


def question_and_answer(turns: Sequence[Turn]) -> tuple[list[Turn], str | None]:
    """Return the turns that the prefix is rendered from, and the text of the answer, None where there is none.

    Raises
    ------
    SampleError
        `template_refused` where the conversation is more than one question and its answer.
    """
    asked = sum(turn.role == "user" for turn in turns)
    if asked > 1:
        raise SampleError(
            Reason.TEMPLATE_REFUSED, f"this model takes one question and its answer; there are {asked} user turns"
        )
    spoken = [turn.role for turn in turns if turn.role != "system"]
    if spoken not in (["user"], ["user", "assistant"]):
        raise SampleError(
            Reason.TEMPLATE_REFUSED, f"this model takes one question and its answer, not {', '.join(spoken)}"
        )
    if turns[-1].role != "assistant":
        return list(turns), None
    return list(turns[:-1]), " ".join(part.text for part in turns[-1].parts if isinstance(part, TextPart))


def laid_out(rendered: RenderedConversation, *, image_token: str, bos_token: str) -> RenderedConversation:
    """Return the text of a prefix, and the spans in it, as the processor lays it out: a first token behind the images.

    Parameters
    ----------
    rendered
        What the chat template made of the question, with at least one image placeholder.
    """
    place = rendered.text.rfind(image_token) + len(image_token)
    spans = tuple(
        (start + len(bos_token), stop + len(bos_token)) if start >= place else (start, stop)
        for start, stop in rendered.user_spans
    )
    text = f"{rendered.text[:place]}{bos_token}{rendered.text[place:]}\n"
    return replace(rendered, text=text, user_spans=spans)

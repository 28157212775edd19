"""Where a processor wrote its image tokens, retraced for one that does not tell: Idefics2's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

_IMAGES_OF_A_SPLIT_ONE = 5  # four quarters and the whole


def retraced_replacements(
    processor: Any, text: str, input_ids: Sequence[int], *, add_special_tokens: bool
) -> list[dict[str, Any]]:
    """Return what other processors return as `text_replacement_offsets`.

    Idefics2's processor writes each image as image tokens between two markers, lets neighbouring images share a
    marker, and puts a space between a marker and a word that follows it.

    Parameters
    ----------
    text
        The prompt, one placeholder an image.
    input_ids
        What the processor made of it.
    add_special_tokens
        As in the call that made them.

    Raises
    ------
    SampleError
        `spans_lost` where the text so written does not have these tokens.
    """
    marker, token = getattr(processor, "fake_image_token", None), processor.image_token
    if not isinstance(marker, str) or not isinstance(getattr(processor, "image_seq_len", None), int):
        raise SampleError(Reason.SPANS_LOST, f"{type(processor).__name__} does not tell where it writes image tokens")
    split = getattr(processor.image_processor, "do_image_splitting", False)
    image = (marker + token * processor.image_seq_len) * (_IMAGES_OF_A_SPLIT_ONE if split else 1) + marker
    first, *others = text.split(token)
    written, place = first, len(first)
    replacements = []
    for after in others:
        start = len(written)
        shown = image.removeprefix(marker) if written.endswith(marker) else image
        shown += " " if after and not after[0].isspace() and after[0] != "<" else ""
        new_span = (start, start + len(shown))
        replacements.append({"span": (place, place + len(token)), "new_span": new_span, "replacement": shown})
        written += shown + after
        place += len(token) + len(after)
    if processor.tokenizer(written, add_special_tokens=add_special_tokens)["input_ids"] != list(input_ids):
        raise SampleError(Reason.SPANS_LOST, "the processor writes image tokens in a way that cannot be retraced")
    return replacements

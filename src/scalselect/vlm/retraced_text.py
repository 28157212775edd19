"""Where a processor wrote its image tokens, retraced for processors that do not tell.

Idefics2's never does, that of ERNIE 4.5 VL not in older versions of transformers.
"""

from __future__ import annotations

from itertools import groupby
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
        `spans_lost` where the text that is thought to be written does not have these tokens.
    """
    token = processor.image_token
    first, *others = text.split(token)
    if isinstance(getattr(processor, "fake_image_token", None), str):
        shown = _between_markers(processor, first, others)
    else:
        shown = _as_copies(token, processor.tokenizer.convert_tokens_to_ids(token), input_ids)
    written, place = first, len(first)
    replacements = []
    for image, after in zip(shown, others, strict=False):
        new_span = (len(written), len(written) + len(image))
        replacements.append({"span": (place, place + len(token)), "new_span": new_span, "replacement": image})
        written += image + after
        place += len(token) + len(after)
    encoded = processor.tokenizer(written, add_special_tokens=add_special_tokens)["input_ids"]
    if len(shown) != len(others) or encoded != list(input_ids):
        name = type(processor).__name__
        raise SampleError(
            Reason.SPANS_LOST, f"{name} does not tell where it writes image tokens, nor can it be retraced"
        )
    return replacements


def _between_markers(processor: Any, first: str, others: Sequence[str]) -> list[str]:
    """Write images as Idefics2's processor does.

    Image tokens stand between markers, neighbouring images share a marker, and a space stands between a marker and a
    word that follows it.
    """
    marker, token = processor.fake_image_token, processor.image_token
    split = getattr(processor.image_processor, "do_image_splitting", False)
    image = (marker + token * processor.image_seq_len) * (_IMAGES_OF_A_SPLIT_ONE if split else 1) + marker
    shown = []
    for before, after in zip([first or " ", *others], others, strict=False):
        space = " " if after and not after[0].isspace() and after[0] != "<" else ""
        shown.append((image if before else image.removeprefix(marker)) + space)
    return shown


def _as_copies(token: str, token_id: int, input_ids: Sequence[int]) -> list[str]:
    """Write each image as copies of its placeholder, as many as stand together among the tokens."""
    return [token * len(list(run)) for number, run in groupby(input_ids) if number == token_id]

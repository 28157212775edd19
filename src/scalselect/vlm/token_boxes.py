"""Which part of which picture each vision token shows, for the families where that was tried out and found right.

What a family's processor does to a picture is worked out from the processor's settings and what it returned; the number
of boxes must then be the number of tokens. Anything else counts as unknown: a wrong place would be worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.vlm.box_layouts import (
    Seen,
    UnknownLayoutError,
    cropped_views,
    gemma4_grids,
    hunyuan_grids,
    merged_grids,
    navit_grids,
    padded_squares,
    pixtral_grids,
    whole_views,
)
from scalselect.vlm.tiled_layouts import (
    anyres_tiles,
    canvas_tiles,
    covering_tiles,
    llama4_tiles,
    splitting_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.box_layouts import Boxes
    from scalselect.vlm.sample_preparer import SamplePreparer

# By model type. Each was compared with what the model's own features make of a changed part of a picture.
LAYOUTS: dict[str, Callable[[Seen], list[Boxes]]] = {
    "aya_vision": canvas_tiles,
    "cohere2_vision": canvas_tiles,
    "deepseek_vl": padded_squares,
    "ernie4_5_vl_moe": merged_grids,
    "exaone4_5": merged_grids,
    "gemma3": whole_views,
    "gemma4": gemma4_grids,
    "gemma4_unified": gemma4_grids,
    "glm46v": merged_grids,
    "glm4v": merged_grids,
    "glm4v_moe": merged_grids,
    "glm_ocr": merged_grids,
    "hunyuan_vl": hunyuan_grids,
    "idefics3": splitting_tiles,
    "internvl": canvas_tiles,
    "janus": padded_squares,
    "kimi_k25": navit_grids,
    "lighton_ocr": pixtral_grids,
    "llama4": llama4_tiles,
    "llava": cropped_views,
    "llava_next": anyres_tiles,
    "llava_next_video": anyres_tiles,
    "llava_onevision": anyres_tiles,
    "minimax_m3_vl": merged_grids,
    "mistral3": pixtral_grids,
    "ovis2": covering_tiles,
    "paddleocr_vl": merged_grids,
    "paligemma": whole_views,
    "qianfan_ocr": canvas_tiles,
    "qwen2_5_omni_thinker": merged_grids,
    "qwen2_5_vl": merged_grids,
    "qwen2_vl": merged_grids,
    "qwen3_5": merged_grids,
    "qwen3_5_moe": merged_grids,
    "qwen3_omni_moe_thinker": merged_grids,
    "qwen3_vl": merged_grids,
    "qwen3_vl_moe": merged_grids,
    "smolvlm": splitting_tiles,
    "video_llama_3": merged_grids,
    "video_llava": cropped_views,
    "vipllava": cropped_views,
}


@dataclass(frozen=True, slots=True, eq=False)
class TokenPlaces:
    """What the vision tokens of a sample show.

    Attributes
    ----------
    image
        Number of the image among those of the sample, from 0; -1 where it is not known, int32 [vision].
    boxes
        Left, top, right, bottom as shares of that image's width and height, which reach beyond 0 and 1 where the token
        shows padding; NaN where it shows no place (a line's end) or the place is not known, float32 [vision, 4].
    unknown
        Why nothing is known, in words; None where the places are known.
    """

    image: NDArray[np.int32]
    boxes: NDArray[np.float32]
    unknown: str | None


def boxes_of_tokens(model_config: Any, preparer: SamplePreparer, sample: PreparedSample) -> TokenPlaces:
    """Return what each vision token of a prepared sample shows, in the order of the sequence.

    Parameters
    ----------
    model_config
        The configuration of the whole model.
    preparer
        What prepared the sample.
    """
    family, tokens = str(model_config.model_type), len(sample.vision)
    layout = LAYOUTS.get(family)
    if layout is None:
        return _unknown(tokens, f"where the tokens of model type `{family}` lie in a picture is not known")
    frames = [_square(size) if preparer.pads else size for size in sample.sizes]
    seen = Seen(model_config, preparer.image_processor, sample.inputs, frames, tokens)
    try:
        found = layout(seen)
    except (UnknownLayoutError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError):
        found = []
    if sum(map(len, found)) != tokens or len(found) != len(frames):
        return _unknown(tokens, f"a checkpoint of model type `{family}` cuts pictures in a way that is not known")
    if preparer.pads:
        found = [_within(boxes, size) for boxes, size in zip(found, sample.sizes, strict=True)]
    return TokenPlaces(
        image=np.repeat(np.arange(len(found), dtype=np.int32), [len(boxes) for boxes in found]),
        boxes=np.concatenate(found).astype(np.float32),
        unknown=None,
    )


def _unknown(tokens: int, why: str) -> TokenPlaces:
    return TokenPlaces(
        image=np.full(tokens, -1, dtype=np.int32), boxes=np.full((tokens, 4), np.nan, dtype=np.float32), unknown=why
    )


def _square(size: tuple[int, int]) -> tuple[int, int]:
    return (max(size), max(size))


def _within(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Return shares of the picture in the middle of a square, from shares of that square."""
    side = max(size)
    width, height = size
    before = np.array([(side - width) // 2, (side - height) // 2] * 2)
    inside: Boxes = (boxes * side - before) / np.array([width, height] * 2)
    return inside

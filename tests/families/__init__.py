"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from contextlib import suppress

from transformers import MODEL_MAPPING, Qwen3OmniMoeThinkerConfig

from families import (
    aria,
    exaone4_5,
    granite4_vision,
    hunyuan_vl,
    internvl,
    kimi_k25,
    lighton_ocr,
    llava_next,
    llava_next_video,
    llava_onevision,
    minimax_m3_vl,
    mistral3,
    pixtral,
    qianfan_ocr,
    qwen,
    qwen3_5,
    qwen_omni,
    video_llava,
    vipllava,
)
from families.family import Family

FAMILIES: dict[str, Family] = {
    "qwen2_vl": qwen.QWEN2_VL,
    "qwen3_vl_moe": qwen.QWEN3_VL_MOE,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "internvl": internvl.FAMILY,
    "mistral3": mistral3.FAMILY,
    "pixtral": pixtral.FAMILY,
    "aria": aria.FAMILY,
    "exaone4_5": exaone4_5.FAMILY,
    "kimi_k25": kimi_k25.FAMILY,
    "lighton_ocr": lighton_ocr.FAMILY,
    "llava_next_video": llava_next_video.FAMILY,
    "qianfan_ocr": qianfan_ocr.FAMILY,
    "video_llava": video_llava.FAMILY,
    "granite4_vision": granite4_vision.FAMILY,
    "hunyuan_vl": hunyuan_vl.FAMILY,
    "minimax_m3_vl": minimax_m3_vl.FAMILY,
    "qwen3_5": qwen3_5.DENSE,
    "qwen3_5_moe": qwen3_5.MOE,
    "vipllava": vipllava.FAMILY,
}

# transformers 5.15 has no model of the thinkers without a head, and neither Molmo2 nor Step 3.7.
if Qwen3OmniMoeThinkerConfig in MODEL_MAPPING:
    FAMILIES |= {"qwen2_5_omni_thinker": qwen_omni.QWEN2_5, "qwen3_omni_moe_thinker": qwen_omni.QWEN3_MOE}
with suppress(ImportError):
    from families import molmo2, step3p7

    FAMILIES |= {"molmo2": molmo2.FAMILY, "step3p7": step3p7.FAMILY}

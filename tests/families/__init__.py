"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from families import (
    aria,
    exaone4_5,
    internvl,
    kimi_k25,
    lighton_ocr,
    llava_next,
    llava_next_video,
    llava_onevision,
    mistral3,
    pixtral,
    qianfan_ocr,
    qwen,
    qwen3_5,
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
    "qwen3_5": qwen3_5.DENSE,
    "qwen3_5_moe": qwen3_5.MOE,
    "vipllava": vipllava.FAMILY,
}

"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from families import internvl, llava_next, llava_onevision, mistral3, pixtral, qwen, qwen3_5, vipllava
from families.family import Family

FAMILIES: dict[str, Family] = {
    "qwen2_vl": qwen.QWEN2_VL,
    "qwen3_vl_moe": qwen.QWEN3_VL_MOE,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "internvl": internvl.FAMILY,
    "mistral3": mistral3.FAMILY,
    "pixtral": pixtral.FAMILY,
    "qwen3_5": qwen3_5.DENSE,
    "qwen3_5_moe": qwen3_5.MOE,
    "vipllava": vipllava.FAMILY,
}

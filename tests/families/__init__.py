"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from families import gemma, gemma4, internvl, llama4, llava_next, llava_onevision, mistral3, qwen
from families.family import Family

FAMILIES: dict[str, Family] = {
    "gemma3": gemma.GEMMA3,
    "gemma4": gemma4.GEMMA4,
    "gemma4_unified": gemma4.GEMMA4_UNIFIED,
    "qwen2_vl": qwen.QWEN2_VL,
    "qwen3_vl_moe": qwen.QWEN3_VL_MOE,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "internvl": internvl.FAMILY,
    "llama4": llama4.FAMILY,
    "mistral3": mistral3.FAMILY,
    "paligemma": gemma.PALIGEMMA,
}

"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from families import (
    cohere,
    deepseek,
    ernie,
    glm,
    got_ocr2,
    idefics3,
    internvl,
    llava_next,
    llava_onevision,
    mistral3,
    ovis2,
    qwen,
    video_llama_3,
)
from families.family import Family

FAMILIES: dict[str, Family] = {
    "qwen2_vl": qwen.QWEN2_VL,
    "qwen3_vl_moe": qwen.QWEN3_VL_MOE,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "idefics3": idefics3.IDEFICS3,
    "smolvlm": idefics3.SMOLVLM,
    "aya_vision": cohere.AYA_VISION,
    "cohere2_vision": cohere.COHERE2_VISION,
    "glm4v": glm.GLM4V,
    "glm4v_moe": glm.GLM4V_MOE,
    "glm46v": glm.GLM46V,
    "glm_ocr": glm.GLM_OCR,
    "deepseek_vl": deepseek.DEEPSEEK_VL,
    "deepseek_vl_hybrid": deepseek.DEEPSEEK_VL_HYBRID,
    "janus": deepseek.JANUS,
    "ovis2": ovis2.FAMILY,
    "got_ocr2": got_ocr2.FAMILY,
    "video_llama_3": video_llama_3.FAMILY,
    "paddleocr_vl": ernie.PADDLEOCR_VL,
    "ernie4_5_vl_moe": ernie.ERNIE,
    "internvl": internvl.FAMILY,
    "mistral3": mistral3.FAMILY,
}

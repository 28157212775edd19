"""Tiny random checkpoints of further families, in the real file layout, each with the delimiters of its template."""

from contextlib import suppress

from transformers import MODEL_MAPPING, Qwen3OmniMoeThinkerConfig

from families import (
    aria,
    cohere,
    deepseek,
    ernie,
    exaone4_5,
    gemma,
    gemma4,
    glm,
    got_ocr2,
    granite4_vision,
    hunyuan_vl,
    idefics,
    internvl,
    kimi_k25,
    lfm2_vl,
    lighton_ocr,
    llama4,
    llava_next,
    llava_next_video,
    llava_onevision,
    minimax_m3_vl,
    mistral3,
    ovis2,
    pixtral,
    qianfan_ocr,
    qwen,
    qwen3_5,
    qwen_omni,
    video_llama_3,
    video_llava,
    vipllava,
)
from families.family import Family

FAMILIES: dict[str, Family] = {
    "gemma3": gemma.GEMMA3,
    "gemma4": gemma4.GEMMA4,
    "gemma4_unified": gemma4.GEMMA4_UNIFIED,
    "qwen2_vl": qwen.QWEN2_VL,
    "qwen3_vl_moe": qwen.QWEN3_VL_MOE,
    "llava_next": llava_next.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "idefics2": idefics.IDEFICS2,
    "idefics3": idefics.IDEFICS3,
    "smolvlm": idefics.SMOLVLM,
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
    "lfm2_vl": lfm2_vl.FAMILY,
    "internvl": internvl.FAMILY,
    "llama4": llama4.FAMILY,
    "mistral3": mistral3.FAMILY,
    "paligemma": gemma.PALIGEMMA,
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

"""Which checkpoints cannot be read this way, and why: better refused than scored wrongly."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from scalselect.errors import ModelError, did_you_mean

TESTED_FAMILIES = (
    "aya_vision",
    "cohere2_vision",
    "deepseek_vl",
    "deepseek_vl_hybrid",
    "ernie4_5_vl_moe",
    "glm46v",
    "glm4v",
    "glm4v_moe",
    "glm_ocr",
    "got_ocr2",
    "idefics2",
    "idefics3",
    "internvl",
    "janus",
    "lfm2_vl",
    "llava",
    "llava_next",
    "llava_onevision",
    "mistral3",
    "ovis2",
    "paddleocr_vl",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
    "video_llama_3",
)

_REFUSED_FAMILIES = {
    "mllama": "vision enters only through cross-attention layers, so layer 0 never sees an image",
    "paligemma": "its mask lets image tokens attend to the instruction, which needs a pass of its own",
    "gemma3n": "its configuration has per-layer fields that a decoder of one layer contradicts",
}
_SOFTMAX_ATTENTION = ("full_attention", "sliding_attention")


def refuse_unsupported(config: Any, *, layer: int = 0) -> list[str]:
    """Raise ModelError naming the cause for a configuration that cannot be used; else return warnings in words."""
    family = config.model_type
    text = config.get_text_config()
    layer_types = getattr(text, "layer_types", None) or ["full_attention"]
    cause = None
    if family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        near = did_you_mean(family, TESTED_FAMILIES)
        cause = f"it is no image-text-to-text model{near}; tested families: {', '.join(TESTED_FAMILIES)}"
    elif family in _REFUSED_FAMILIES:
        cause = _REFUSED_FAMILIES[family]
    elif getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False):
        cause = "it is an encoder-decoder model, whose decoder sees images only through cross-attention"
    elif getattr(text, "cross_attention_layers", None):
        cause = "vision enters through cross-attention layers"
    elif image_token_id(config) is None:
        cause = "its configuration names no image token, so vision tokens cannot be told"
    elif layer < len(layer_types) and layer_types[layer] not in _SOFTMAX_ATTENTION:
        kind = layer_types[layer]
        what = "no softmax attention" if "linear" in kind or kind == "conv" else "an attention that was not tested"
        cause = f"its decoder layer {layer} has {what}: {kind}{_other_layer(layer_types)}"
    elif getattr(config, "quantization_config", None) is not None:
        method = getattr(config.quantization_config, "quant_method", None) or config.quantization_config
        cause = f"the checkpoint is quantised ({method}): give the unquantised one"
    if cause is not None:
        raise ModelError(f"model type `{family}` is not supported: {cause}")
    if family in TESTED_FAMILIES:
        return []
    return [f"model type `{family}` is untested: its vectors were never compared with those of the full model"]


def _other_layer(layer_types: list[str]) -> str:
    for number, kind in enumerate(layer_types):
        if kind in _SOFTMAX_ATTENTION:
            return f"; the first layer that can be read is --layer {number}"
    return ""


def image_token_id(config: Any) -> int | None:
    """Return the id of the image placeholder, or None where the configuration has none."""
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None

"""Which checkpoints cannot be read this way, and why: better refused than scored wrongly."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from scalselect.errors import ModelError, did_you_mean
from scalselect.vlm.prefix_lm import PREFIX_LM_FAMILIES
from scalselect.vlm.remote_code import is_own_code

TESTED_FAMILIES = (
    "aya_vision",
    "cohere2_vision",
    "deepseek_vl",
    "deepseek_vl_hybrid",
    "ernie4_5_vl_moe",
    "gemma3",
    "gemma4",
    "gemma4_unified",
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
    "llama4",
    "llava",
    "llava_next",
    "llava_onevision",
    "mistral3",
    "ovis2",
    "paddleocr_vl",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
    "video_llama_3",
)

_REFUSED_FAMILIES = {
    "diffusion_gemma": "its decoder denoises an answer of its own, and never sees the tokens of image and conversation",
    "mllama": "vision enters only through cross-attention layers, so layer 0 never sees an image",
    "gemma3n": "its configuration has per-layer fields that a decoder of one layer contradicts",
    "shieldgemma2": "its processor writes prompts of its own and takes no conversation",
}
_SOFTMAX_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")


def refuse_unsupported(config: Any, *, layer: int = 0) -> list[str]:
    """Raise ModelError naming the cause for a configuration that cannot be used; else return warnings in words."""
    family = config.model_type
    text = config.get_text_config()
    cause = None
    if family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and not is_own_code(config):
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
    elif (unreadable := _unreadable_decoder(config, layer)) is not None:
        cause = unreadable
    elif (method := _quantisation(config)) is not None:
        cause = f"the checkpoint is quantised ({method}): give the unquantised one"
    if cause is not None:
        raise ModelError(f"model type `{family}` is not supported: {cause}")
    if family in TESTED_FAMILIES:
        return []
    return [f"model type `{family}` is untested: its vectors were never compared with those of the full model"]


def _quantisation(config: Any) -> str | None:
    """Return the name of the method that a checkpoint's weights are quantised with, or None where they are not."""
    text = config.get_text_config()
    # Older compressed-tensors checkpoints use the second name; some models keep either with their language model.
    found = [
        getattr(part, name, None) for part in (config, text) for name in ("quantization_config", "compression_config")
    ]
    for facts in found:
        if facts is not None:
            read = facts.get if isinstance(facts, dict) else vars(facts).get
            method = read("quant_method")
            if method is None and (read("load_in_4bit") or read("load_in_8bit")):
                method = "bitsandbytes"  # before it named itself
            return str(getattr(method, "value", method) or "by a method without a name")
    return None


def _unreadable_decoder(config: Any, layer: int) -> str | None:
    """Return the cause where a decoder layer cannot be run alone, or its attention cannot be read."""
    return _per_layer_embeddings(config) or _text_that_sees_ahead(config) or _kind_of_layer(config, layer)


def _per_layer_embeddings(config: Any) -> str | None:
    if not getattr(config.get_text_config(), "hidden_size_per_layer_input", None):
        return None
    return "it has per-layer embeddings, one table for all layers that a decoder of fewer layers cannot take"


def _text_that_sees_ahead(config: Any) -> str | None:
    """Return the cause where the mask is not causal for text; that images see themselves (`vision`) does no harm."""
    text = config.get_text_config()
    both_ways = getattr(text, "use_bidirectional_attention", None)
    sees_ahead = both_ways is True or both_ways == "all" or getattr(text, "is_causal", True) is False
    if not sees_ahead or config.model_type in PREFIX_LM_FAMILIES:
        return None
    return "its decoder lets every token attend to later ones, so no token could be left out of the pass"


def _kind_of_layer(config: Any, layer: int) -> str | None:
    layer_types = getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]
    if layer >= len(layer_types) or layer_types[layer] in _SOFTMAX_ATTENTION:
        return None
    kind = layer_types[layer]
    what = "no softmax attention" if "linear" in kind or kind == "conv" else "an attention that was not tested"
    return f"its decoder layer {layer} has {what}: {kind}{_other_layer(layer_types)}"


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

"""Which checkpoints cannot be read this way, and why: better refused than scored wrongly."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import MODEL_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from scalselect.errors import ModelError, did_you_mean

TESTED_FAMILIES = (
    "aria",
    "exaone4_5",
    "granite4_vision",
    "hunyuan_vl",
    "internvl",
    "kimi_k25",
    "lighton_ocr",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "minimax_m3_vl",
    "mistral3",
    "molmo2",
    "qianfan_ocr",
    "qwen2_5_omni_thinker",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_omni_moe_thinker",
    "qwen3_vl",
    "qwen3_vl_moe",
    "step3p7",
    "video_llava",
    "vipllava",
)

_REFUSED_FAMILIES = {
    "evolla": "it reads proteins, not images",
    "gemma3n": "its configuration has per-layer fields that a decoder of one layer contradicts",
    "instructblipvideo": "it takes videos only",
    "mllama": "vision enters only through cross-attention layers, so layer 0 never sees an image",
    "paligemma": "its mask lets image tokens attend to the instruction, which needs a pass of its own",
    "pi0": "it denoises robot actions, which a conversation about an image does not have",
}
_CROSS_ATTENTION = "vision enters only through cross-attention layers, so no token of the sequence is a vision token"
_SOFTMAX_ATTENTION = ("full_attention", "sliding_attention")
_OTHER_LAYERS = {
    "conv": "a convolution and no attention",
    "hybrid": "an attention that was not tested, which runs over convolved or recurrent states",
    "hybrid_sliding": "an attention that was not tested, which runs over convolved or recurrent states",
    "indexed_attention": "an attention that was not tested, over the tokens that an indexer picks",
    "linear_attention": "no softmax attention",
    "minimax_m3_sparse": "an attention that was not tested, over the tokens that an indexer picks",
    "mlp": "no attention",
    "moe": "no attention",
    "reference_sliding_attention": "an attention that was not tested, full over the prompt and sliding after it",
}


def refuse_unsupported(config: Any, *, layer: int = 0) -> list[str]:
    """Raise ModelError naming the cause for a configuration that cannot be used; else return warnings in words."""
    family = config.model_type
    cause: str | None
    if hasattr(config, "thinker_config"):  # Qwen-Omni as a whole
        cause = "its thinker alone reads images: save that and the processor to a folder of their own, and give it"
    elif family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        near = did_you_mean(family, TESTED_FAMILIES)
        cause = f"it is no image-text-to-text model{near}; tested families: {', '.join(TESTED_FAMILIES)}"
    else:
        cause = (
            _REFUSED_FAMILIES.get(family)
            or _way_images_enter(config, layer)
            or _missing_model_class(config)
            or _kind_of_layer(config, layer)
            or _missing_attention_interface(config)
            or _missing_image_token(config)
            or _quantisation(config)
        )
    if cause is not None:
        raise ModelError(f"model type `{family}` is not supported: {cause}")
    if family in TESTED_FAMILIES:
        return []
    return [f"model type `{family}` is untested: its vectors were never compared with those of the full model"]


def image_token_id(config: Any) -> int | None:
    """Return the id of the image placeholder, or None where the configuration has none."""
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None


def _way_images_enter(config: Any, layer: int) -> str | None:
    """Return the cause where images are no tokens of the decoder's sequence, or cannot be found in it."""
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False):
        return "it is an encoder-decoder model, whose decoder sees images only through cross-attention"
    if getattr(text, "cross_attention_layers", None) or hasattr(text, "cross_layer_interval"):
        return _CROSS_ATTENTION
    if not type(config).sub_configs:
        return "it is a language model alone, without a vision tower"
    if hasattr(config, "qformer_config") and hasattr(config, "num_query_tokens"):
        return (
            "its processor puts the queries of a Q-Former in front of the finished text, so that texts cannot be "
            "traced to tokens"
        )
    injected = getattr(config, "deepstack_layer_map", None)
    if injected:  # Granite 4 Vision: until the first of these layers its image tokens are zeros
        first = min(*(number for _, number in injected), *config.spatial_target_layers)
        if first > layer:
            return f"its image features enter before decoder layer {first}: give --layer {first} or a later one"
    return None


def _missing_model_class(config: Any) -> str | None:
    if type(config) in MODEL_MAPPING:
        return None
    return "transformers has no model of it without a head (`AutoModel`), so single layers cannot be loaded"


def _kind_of_layer(config: Any, layer: int) -> str | None:
    layer_types = getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]
    if layer >= len(layer_types) or layer_types[layer] in _SOFTMAX_ATTENTION:
        return None
    kind = layer_types[layer]
    what = _OTHER_LAYERS.get(kind, "an attention that was not tested")
    readable = [number for number, other in enumerate(layer_types) if other in _SOFTMAX_ATTENTION]
    offer = f"the first layer that can be read is --layer {readable[0]}" if readable else "no layer of it can be read"
    return f"its decoder layer {layer} has {what}: {kind}; {offer}"


def _missing_attention_interface(config: Any) -> str | None:
    model = MODEL_MAPPING[type(config)]
    if model._supports_attention_backend or model._supports_sdpa:  # noqa: SLF001  no public reader
        return None
    return "its attention cannot be exchanged in transformers, so that a registered one would never be called"


def _missing_image_token(config: Any) -> str | None:
    if image_token_id(config) is not None:
        return None
    if "image_embeds_position_mask" in inspect.signature(MODEL_MAPPING[type(config)].forward).parameters:
        return "a mask (`image_embeds_position_mask`) and no image token tells it where images stand"
    if hasattr(config, "vocabulary_map"):
        return "its configuration has no `vocabulary_map` with an entry `<image>`, so vision tokens cannot be told"
    return "its configuration names no image token, so vision tokens cannot be told"


def _quantisation(config: Any) -> str | None:
    settings: Any = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    name = getattr(method, "value", method) or "a method it does not name"
    return f"the checkpoint is quantised ({name}): give the unquantised one"

"""Which checkpoints cannot be read this way, and why: better refused than scored wrongly."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import MODEL_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from scalselect.errors import ModelError, did_you_mean
from scalselect.vlm.prefix_lm import PREFIX_LM_FAMILIES
from scalselect.vlm.remote_code import is_own_code

TESTED_FAMILIES = (
    "aria",
    "aya_vision",
    "cohere2_vision",
    "deepseek_vl",
    "deepseek_vl_hybrid",
    "ernie4_5_vl_moe",
    "exaone4_5",
    "gemma3",
    "gemma4",
    "gemma4_unified",
    "glm46v",
    "glm4v",
    "glm4v_moe",
    "glm_ocr",
    "got_ocr2",
    "granite4_vision",
    "hunyuan_vl",
    "idefics2",
    "idefics3",
    "internvl",
    "janus",
    "kimi_k25",
    "lfm2_vl",
    "lighton_ocr",
    "llama4",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "minimax_m3_vl",
    "mistral3",
    "molmo2",
    "ovis2",
    "paddleocr_vl",
    "paligemma",
    "qianfan_ocr",
    "qwen2_5_omni_thinker",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_omni_moe_thinker",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
    "step3p7",
    "video_llama_3",
    "video_llava",
    "vipllava",
)

_REFUSED_FAMILIES = {
    "diffusion_gemma": "its decoder denoises an answer of its own, and never sees the tokens of image and conversation",
    "evolla": "it reads proteins, not images",
    "gemma3n": "its configuration has per-layer fields that a decoder of one layer contradicts",
    "instructblipvideo": "it takes videos only",
    "mllama": "vision enters only through cross-attention layers, so layer 0 never sees an image",
    "pi0": "it denoises robot actions, which a conversation about an image does not have",
    "shieldgemma2": "its processor writes prompts of its own and takes no conversation",
}
_CROSS_ATTENTION = "vision enters only through cross-attention layers, so no token of the sequence is a vision token"
_SOFTMAX_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
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
    elif family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and not is_own_code(config):
        near = did_you_mean(family, TESTED_FAMILIES)
        cause = f"it is no image-text-to-text model{near}; tested families: {', '.join(TESTED_FAMILIES)}"
    else:
        cause = (
            _REFUSED_FAMILIES.get(family)
            or _way_images_enter(config, layer)
            or _per_layer_embeddings(config)
            or _text_that_sees_ahead(config)
            or _missing_model_class(config)
            or _kind_of_layer(config, layer)
            or _missing_attention_interface(config)
            or _missing_image_token(config)
            or _quantised(config)
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
    if is_own_code(config) or type(config) in MODEL_MAPPING:
        return None
    return "transformers has no model of it without a head (`AutoModel`), so single layers cannot be loaded"


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
    what = _OTHER_LAYERS.get(kind, "an attention that was not tested")
    readable = [number for number, other in enumerate(layer_types) if other in _SOFTMAX_ATTENTION]
    offer = f"the first layer that can be read is --layer {readable[0]}" if readable else "no layer of it can be read"
    return f"its decoder layer {layer} has {what}: {kind}; {offer}"


def _missing_attention_interface(config: Any) -> str | None:
    if is_own_code(config):  # the rehearsal shows whether it runs
        return None
    model = MODEL_MAPPING[type(config)]
    if model._supports_attention_backend or model._supports_sdpa:  # noqa: SLF001  no public reader
        return None
    return "its attention cannot be exchanged in transformers, so that a registered one would never be called"


def _missing_image_token(config: Any) -> str | None:
    if image_token_id(config) is not None:
        return None
    arguments = {} if is_own_code(config) else inspect.signature(MODEL_MAPPING[type(config)].forward).parameters
    if "image_embeds_position_mask" in arguments:
        return "a mask (`image_embeds_position_mask`) and no image token tells it where images stand"
    if hasattr(config, "vocabulary_map"):
        return "its configuration has no `vocabulary_map` with an entry `<image>`, so vision tokens cannot be told"
    return "its configuration names no image token, so vision tokens cannot be told"


def _quantised(config: Any) -> str | None:
    method = _quantisation(config)
    return None if method is None else f"the checkpoint is quantised ({method}): give the unquantised one"


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

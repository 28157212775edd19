"""DeepSeek-VL with one tower or two, and Janus: one square picture, padded, a fixed number of tokens."""

import re

from transformers import (
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    DeepseekVLHybridImageProcessor,
    DeepseekVLHybridProcessor,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
)

from families.family import Family, save, text_config, tokenizer_with

# A system text stands without a role; only an answer has a token that ends it.
_TEMPLATE = """\
{%- for turn in messages -%}
  {%- if turn.role != "system" -%}{{ {"user": "USER", "assistant": "ASSISTANT"}[turn.role] + ": " }}{%- endif -%}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<image_placeholder>" }}{%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
  {{- "<|end_of_sentence|>" if turn.role == "assistant" else "\\n\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "ASSISTANT:" }}{%- endif -%}
"""
_PICTURE = {"height": 56, "width": 56}
_TOKENS = 16
_SIGLIP = {
    "model_type": "siglip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "vision_use_head": False,
}
_SAM = {
    "model_type": "sam_vision_model",
    "image_size": 128,
    "patch_size": 16,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "mlp_dim": 64,
    "num_attention_heads": 2,
    "output_channels": 16,
    "window_size": 3,  # does not divide the 8 x 8 patches, so that windows are padded
    "global_attn_indexes": [1],
}


def _turn_pattern(user, assistant):
    return re.compile(
        rf"(?P<role>{user}|{assistant})(?:\|>)?: "
        rf"(?P<content>.*?)(?:<\|end_of_sentence\|>|\n\n(?=(?:<\|)?{assistant})|\n\n\Z)",
        re.DOTALL,
    )


def _template(user, assistant):
    return _TEMPLATE.replace("USER", user).replace("ASSISTANT", assistant)


def _build_deepseek_vl(folder):
    tokenizer = tokenizer_with("<|end_of_sentence|>", image_token="<image_placeholder>")
    config = DeepseekVLConfig(
        text_config=text_config(tokenizer, "llama"),
        vision_config=_SIGLIP,
        image_token_id=tokenizer.image_token_id,
    )
    processor = DeepseekVLProcessor(
        image_processor=DeepseekVLImageProcessor(size=_PICTURE),
        tokenizer=tokenizer,
        chat_template=_template("User", "Assistant"),
        num_image_tokens=_TOKENS,
    )
    return save(DeepseekVLForConditionalGeneration(config), processor, folder)


def _build_deepseek_vl_hybrid(folder):
    tokenizer = tokenizer_with("<|end_of_sentence|>", image_token="<image_placeholder>")
    config = DeepseekVLHybridConfig(
        text_config=text_config(tokenizer, "llama"),
        vision_config=_SIGLIP,
        high_res_vision_config=_SAM,
        image_token_id=tokenizer.image_token_id,
    )
    processor = DeepseekVLHybridProcessor(
        image_processor=DeepseekVLHybridImageProcessor(size=_PICTURE, high_res_size={"height": 128, "width": 128}),
        tokenizer=tokenizer,
        chat_template=_template("User", "Assistant"),
        num_image_tokens=_TOKENS,
    )
    return save(DeepseekVLHybridForConditionalGeneration(config), processor, folder)


def _build_janus(folder):
    tokenizer = tokenizer_with(
        "<|end_of_sentence|>",
        "<|User|>",
        "<|Assistant|>",
        image_token="<image_placeholder>",
        boi_token="<begin_of_image>",
        eoi_token="<end_of_image>",
    )
    config = JanusConfig(
        text_config=text_config(tokenizer, "llama"),
        vision_config={
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "projection_dim": 64,
            "num_image_tokens": _TOKENS,
        },
        vq_config={  # for drawing pictures, never for reading them
            "embed_dim": 8,
            "num_embeddings": 16,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1],
            "num_res_blocks": 1,
            "projection_dim": 64,
            "image_token_embed_dim": 64,
        },
        image_token_id=tokenizer.image_token_id,
    )
    processor = JanusProcessor(
        image_processor=JanusImageProcessor(size=_PICTURE),
        tokenizer=tokenizer,
        chat_template=_template("<|User|>", "<|Assistant|>"),
        num_image_tokens=_TOKENS,
        use_default_system_prompt=True,  # written in front of the text by the processor, after the template
    )
    return save(JanusForConditionalGeneration(config), processor, folder)


_IMAGE = re.compile(r"(?:<image_placeholder>)+")
DEEPSEEK_VL = Family(_build_deepseek_vl, _turn_pattern("User", "Assistant"), _IMAGE)
DEEPSEEK_VL_HYBRID = Family(_build_deepseek_vl_hybrid, _turn_pattern("User", "Assistant"), _IMAGE)
JANUS = Family(
    _build_janus,
    _turn_pattern("User", "Assistant"),
    re.compile(r"<begin_of_image>(?:<image_placeholder>)+<end_of_image>"),
)

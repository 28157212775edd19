"""Aya Vision and Command A Vision over Cohere 2: SigLIP tiles and a thumbnail, a sliding window in layer 0."""

import re

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    GotOcr2ImageProcessor,
)

from families.family import Family, save, text_config, tokenizer_with

# A turn's images come before its texts; an answer has delimiters of its own inside the turn.
_TEMPLATE = """\
{{- "<BOS_TOKEN>" -}}
{%- for turn in messages -%}
  {%- set name = {"user": "USER", "assistant": "CHATBOT", "system": "SYSTEM"}[turn.role] -%}
  {{- "<|START_OF_TURN_TOKEN|><|" + name + "_TOKEN|>" -}}
  {%- if turn.role == "assistant" -%}{{ "<|START_RESPONSE|>" }}{%- endif -%}
  {%- for part in turn.content if part.type == "image" -%}{{ "IMAGE" }}{%- endfor -%}
  {%- for part in turn.content if part.type == "text" -%}{{ part.text }}{%- endfor -%}
  {%- if turn.role == "assistant" -%}{{ "<|END_RESPONSE|>" }}{%- endif -%}
  {{- "<|END_OF_TURN_TOKEN|>" -}}
{%- endfor -%}
"""
_TURN = re.compile(
    r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>USER|CHATBOT|SYSTEM)_TOKEN\|>(?:<\|START_RESPONSE\|>)?"
    r"(?P<content>.*?)(?:<\|END_RESPONSE\|>)?<\|END_OF_TURN_TOKEN\|>",
    re.DOTALL,
)
_MARKERS = (
    *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    *("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)
_IMAGE_TOKENS = {
    "boi_token": "<|START_OF_IMG|>",
    "eoi_token": "<|END_OF_IMG|>",
    "image_token": "<|IMG_PATCH|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}
_WINDOW = 48  # shorter than the conversations, so that some questions lie beyond their image's reach in part
_VISION = {
    "model_type": "siglip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "vision_use_head": False,
}


def _tokenizer(**named):
    tokenizer = tokenizer_with(*_MARKERS, **named)
    tokenizer.add_special_tokens({"bos_token": "<BOS_TOKEN>"})
    return tokenizer


def _build_aya_vision(folder):
    tokenizer = _tokenizer()
    tokenizer.add_tokens([*_IMAGE_TOKENS.values(), "<image>"], special_tokens=True)
    config = AyaVisionConfig(
        text_config=text_config(tokenizer, "cohere2", sliding_window=_WINDOW),
        vision_config=_VISION,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
        alignment_intermediate_size=64,
    )
    processor = AyaVisionProcessor(
        image_processor=GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        patch_size=14,
        img_size=56,
        downsample_factor=2,
        chat_template=_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return save(AyaVisionForConditionalGeneration(config), processor, folder)


def _build_cohere2_vision(folder):
    tokenizer = _tokenizer(**_IMAGE_TOKENS)
    config = Cohere2VisionConfig(
        text_config=text_config(tokenizer, "cohere2", sliding_window=_WINDOW),
        vision_config=_VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
        alignment_intermediate_size=64,
    )
    processor = Cohere2VisionProcessor(
        # `patch_size` is the side of a tile in tokens
        image_processor=Cohere2VisionImageProcessor(size={"height": 56, "width": 56}, max_patches=6, patch_size=2),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE.replace("IMAGE", "<|IMG_PATCH|>"),
    )
    return save(Cohere2VisionForConditionalGeneration(config), processor, folder)


AYA_VISION = Family(
    _build_aya_vision, _TURN, re.compile(r"<\|START_OF_IMG\|>(?:TILE_\w+?|(?:<\|IMG_PATCH\|>)+)+<\|END_OF_IMG\|>")
)
COHERE2_VISION = Family(
    _build_cohere2_vision,
    _TURN,
    re.compile(r"<\|START_OF_IMG\|>(?:<\|IMG_PATCH\|>|<\|IMG_LINE_BREAK\|>)+<\|END_OF_IMG\|>"),
)

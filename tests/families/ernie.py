"""ERNIE 4.5 VL with its experts, and PaddleOCR-VL: patches merged two by two, three-part positions."""

import re

from transformers import (
    Ernie4_5_VLMoeConfig,
    Ernie4_5_VLMoeForConditionalGeneration,
    Ernie4_5_VLMoeImageProcessor,
    Ernie4_5_VLMoeProcessor,
    Ernie4_5_VLMoeVideoProcessor,
    PaddleOCRVLConfig,
    PaddleOCRVLForConditionalGeneration,
    PaddleOCRVLImageProcessor,
    PaddleOCRVLProcessor,
)

from families.family import Family, save, text_config, tokenizer_with
from tiny_vlms import pixel_limits

_TEMPLATE = """\
{{- "<|begin_of_sentence|>" -}}
{%- set pictures = namespace(number=0) -%}
{%- for turn in messages -%}
  {%- if turn.role != "system" -%}{{ {"user": "User", "assistant": "Assistant"}[turn.role] + ": " }}{%- endif -%}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}
      {%- set pictures.number = pictures.number + 1 -%}
      {{ NAME + "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>" }}
    {%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
  {{- "<|end_of_sentence|>" if turn.role == "assistant" else "\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "Assistant: " }}{%- endif -%}
"""
_TURN = re.compile(
    r"(?P<role>User|Assistant): (?P<content>.*?)(?:<\|end_of_sentence\|>|\n(?=Assistant: |User: )|\n\Z)", re.DOTALL
)
_IMAGE = re.compile(r"(?:Picture \d+:)?<\|IMAGE_START\|>(?:<\|IMAGE_PLACEHOLDER\|>)+<\|IMAGE_END\|>")
_MARKERS = {
    "image_token": "<|IMAGE_PLACEHOLDER|>",
    "image_start_token": "<|IMAGE_START|>",
    "image_end_token": "<|IMAGE_END|>",
    "video_token": "<|VIDEO_PLACEHOLDER|>",
    "video_start_token": "<|VIDEO_START|>",
    "video_end_token": "<|VIDEO_END|>",
}


def _tokenizer():
    tokenizer = tokenizer_with("<|end_of_sentence|>", **_MARKERS)
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_sentence|>"})
    return tokenizer


def _build_ernie(folder):
    tokenizer = _tokenizer()
    rope = {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [3, 3, 2]}
    config = Ernie4_5_VLMoeConfig(
        text_config=text_config(
            tokenizer,
            "ernie4_5_vl_moe_text",
            rope_parameters=rope,
            moe_intermediate_size=[48, 32],
            moe_k=2,
            moe_num_experts=4,
            moe_num_shared_experts=1,
            mlp_layer_types=["sparse", "sparse", "dense"],  # the published ones begin with dense layers
        ),
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in _MARKERS.items()},
    )
    processor = Ernie4_5_VLMoeProcessor(
        image_processor=Ernie4_5_VLMoeImageProcessor(size=pixel_limits("small", token_side=28)),
        tokenizer=tokenizer,
        video_processor=Ernie4_5_VLMoeVideoProcessor(draw_on_frames=False),  # no font needed
        chat_template=_TEMPLATE.replace("NAME", '"Picture " + pictures.number | string + ":"'),
    )
    return save(Ernie4_5_VLMoeForConditionalGeneration(config), processor, folder)


def _build_paddleocr_vl(folder):
    tokenizer = _tokenizer()
    rope = {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [2, 3, 3]}
    config = PaddleOCRVLConfig(
        text_config=text_config(tokenizer, "paddleocr_vl_text", rope_parameters=rope, head_dim=16),
        vision_config={
            "image_size": 56,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.image_start_token_id,
        vision_end_token_id=tokenizer.image_end_token_id,
    )
    processor = PaddleOCRVLProcessor(
        image_processor=PaddleOCRVLImageProcessor(size=pixel_limits("small", token_side=28)),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE.replace("NAME + ", ""),
    )
    return save(PaddleOCRVLForConditionalGeneration(config), processor, folder)


ERNIE = Family(_build_ernie, _TURN, _IMAGE)
PADDLEOCR_VL = Family(_build_paddleocr_vl, _TURN, _IMAGE)

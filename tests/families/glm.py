"""GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-OCR: patches merged two by two, three-part positions, no end of turn."""

import re

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    GlmOcrConfig,
    GlmOcrForConditionalGeneration,
)

from families.family import Family, save, text_config, tokenizer_with

_TEMPLATE = """\
{{- "[gMASK]<sop>" -}}
{%- for turn in messages -%}
  {{- "<|" + turn.role + "|>\\n" -}}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<|begin_of_image|><|image|><|end_of_image|>" }}
    {%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|assistant|>\\n" }}{%- endif -%}
"""
_TURN = re.compile(
    r"<\|(?P<role>user|assistant|system)\|>\n(?P<content>.*?)(?=<\|(?:user|assistant|system)\|>|\Z)", re.DOTALL
)
_IMAGE = re.compile(r"<\|begin_of_image\|>(?:<\|image\|>)+<\|end_of_image\|>")
_MARKERS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "image_size": 56,  # the table of positions is interpolated for other sizes
}
# Of two frames, as which a picture is shown: 4 to 32 vision tokens.
_SIZE = {"shortest_edge": 2 * 4 * 28**2, "longest_edge": 2 * 32 * 28**2}


def _tokenizer():
    return tokenizer_with("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", *_MARKERS.values())


def _write(folder, tokenizer, model_class, config, parts):
    image_processor, video_processor, processor_class = parts
    processor = processor_class(
        image_processor=image_processor(size=_SIZE),
        tokenizer=tokenizer,
        video_processor=video_processor(),
        chat_template=_TEMPLATE,
    )
    return save(model_class(config), processor, folder)


def _ids(tokenizer):
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in _MARKERS.items()}


_GLM4V_PARTS = (Glm4vImageProcessor, Glm4vVideoProcessor, Glm4vProcessor)
_GLM46V_PARTS = (Glm46VImageProcessor, Glm46VVideoProcessor, Glm46VProcessor)


def _build_glm4v(folder):
    tokenizer = _tokenizer()
    config = Glm4vConfig(
        text_config=text_config(tokenizer, "glm4v_text", rope_parameters=_ROPE),
        vision_config=_VISION,
        **_ids(tokenizer),
    )
    return _write(folder, tokenizer, Glm4vForConditionalGeneration, config, _GLM4V_PARTS)


def _build_glm46v(folder):
    tokenizer = _tokenizer()
    config = Glm46VConfig(
        text_config=text_config(tokenizer, "glm4v_text", rope_parameters=_ROPE),
        vision_config={"model_type": "glm4v_vision", **_VISION},
        **_ids(tokenizer),
    )
    return _write(folder, tokenizer, Glm46VForConditionalGeneration, config, _GLM46V_PARTS)


def _build_glm_ocr(folder):
    tokenizer = _tokenizer()
    rope = {**_ROPE, "partial_rotary_factor": 1.0, "mrope_section": [2, 3, 3]}
    config = GlmOcrConfig(
        text_config=text_config(tokenizer, "glm_ocr_text", rope_parameters=rope, head_dim=16),
        vision_config=_VISION,
        **_ids(tokenizer),
    )
    return _write(folder, tokenizer, GlmOcrForConditionalGeneration, config, _GLM46V_PARTS)


def _build_glm4v_moe(folder):
    tokenizer = _tokenizer()
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = Glm4vMoeConfig(
        text_config=text_config(tokenizer, "glm4v_moe_text", rope_parameters=_ROPE, first_k_dense_replace=0, **experts),
        vision_config=_VISION,
        **_ids(tokenizer),
    )
    return _write(folder, tokenizer, Glm4vMoeForConditionalGeneration, config, _GLM4V_PARTS)


GLM4V = Family(_build_glm4v, _TURN, _IMAGE)
GLM46V = Family(_build_glm46v, _TURN, _IMAGE)
GLM_OCR = Family(_build_glm_ocr, _TURN, _IMAGE)
GLM4V_MOE = Family(_build_glm4v_moe, _TURN, _IMAGE)

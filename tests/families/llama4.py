"""Llama 4: tiles of a picture and the whole of it, experts, and attention inside chunks, of 64 tokens here."""

import re

from transformers import Llama4Config, Llama4ForConditionalGeneration, Llama4ImageProcessor, Llama4Processor
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from families.family import Family, save, text_config, tokenizer_with

# The whole model of transformers 5.24 ends by reading this field of its language model's output, which has none.
if not hasattr(MoeCausalLMOutputWithPast, "image_outputs"):
    MoeCausalLMOutputWithPast.image_outputs = None

_TEMPLATE = """\
{%- for turn in messages -%}
  {{- "<|header_start|>" + turn.role + "<|header_end|>\\n\\n" -}}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<|image|>" }}{%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
  {{- "<|eot|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|header_start|>assistant<|header_end|>\\n\\n" }}{%- endif -%}
"""
_TURN = re.compile(
    r"<\|header_start\|>(?P<role>\w+)<\|header_end\|>\n\n(?P<content>.*?)<\|eot\|>(?=<\|header_start\|>|\Z)", re.DOTALL
)
_IMAGE = re.compile(r"<\|image_start\|>(?:<\|patch\|>|<\|tile_[xy]_separator\|>|<\|image\|>)+<\|image_end\|>")


def _build(folder):
    tokenizer = tokenizer_with(
        "<|header_start|>",
        "<|header_end|>",
        "<|eot|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|image|>",
        "<|patch|>",
        "<|tile_x_separator|>",
        "<|tile_y_separator|>",
    )
    config = Llama4Config(
        text_config=text_config(
            tokenizer,
            "llama4_text",
            head_dim=16,
            intermediate_size_mlp=128,
            num_local_experts=4,
            attention_chunk_size=64,
        ),
        vision_config={
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 128,  # of four patches side by side
            "num_attention_heads": 2,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "vision_output_dim": 64,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    assert config.text_config.layer_types == ["chunked_attention"] * 3
    processor = Llama4Processor(
        image_processor=Llama4ImageProcessor(size={"height": 56, "width": 56}, max_patches=4),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=_TEMPLATE,
    )
    return save(Llama4ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, _TURN, _IMAGE)

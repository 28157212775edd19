"""Pixtral as LLaVA, as in `mistral-community/pixtral-12b`: pictures of any size, row breaks, every patch a token."""

import re

from transformers import LlavaConfig, LlavaForConditionalGeneration, PixtralImageProcessor, PixtralProcessor

from families.family import Family, save, text_config, tokenizer_with

_TEMPLATE = """\
{%- for turn in messages -%}
  {%- if turn.role == "user" -%}{{ "[INST]" }}{%- endif -%}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "[IMG]" }}{%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
  {%- if turn.role == "user" -%}{{ "[/INST]" }}{%- else -%}{{ "<|im_end|>" }}{%- endif -%}
{%- endfor -%}
"""
# A user turn stands between [INST] and [/INST]; what follows it, up to the end of sequence, is the answer.
_TURN = re.compile(r"(?P<role>\[INST\]|(?<=\[/INST\]))(?P<content>.*?)(?:\[/INST\]|<\|im_end\|>)", re.DOTALL)


def _build(folder):
    tokenizer = tokenizer_with("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]")
    config = LlavaConfig(
        text_config=text_config(tokenizer, "mistral", head_dim=16, sliding_window=None),
        vision_config={
            "model_type": "pixtral",
            "image_size": 112,
            "patch_size": 16,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "head_dim": 16,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
    )
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 16, "width": 16}),
        tokenizer=tokenizer,
        patch_size=16,
        chat_template=_TEMPLATE,
    )
    return save(LlavaForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, _TURN, re.compile(r"(?:\[IMG\]|\[IMG_BREAK\])+\[IMG_END\]"), model_type="llava")

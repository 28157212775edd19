"""The Idefics line: Idefics2 over Mistral, Idefics3 over Llama, SmolVLM; a picture is its parts and the whole."""

import re

from transformers import (
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from families.family import Family, save, text_config, tokenizer_with

# No space stands between a colon and an image; a turn ends with a token of its own.
_TEMPLATE = """\
{{- START -}}
{%- for turn in messages -%}
  {{- turn.role | capitalize + ":" -}}
  {%- if turn.content[0].type != "image" -%}{{ " " }}{%- endif -%}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<image>" }}{%- else -%}{{ part.text }}{%- endif -%}
  {%- endfor -%}
  {{- "<end_of_utterance>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "Assistant:" }}{%- endif -%}
"""
_TURN = re.compile(r"(?P<role>User|Assistant|System):(?P<content>.*?)<end_of_utterance>\n", re.DOTALL)
_IMAGE = re.compile(
    r"(?:<fake_token_around_image><(?:global-img|row_\d_col_\d)>(?:<image>)+\n*)+<fake_token_around_image>"
)
_TAGS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
_TILE = 56
_TOKENS = 4  # a tile: 4 x 4 patches, shuffled two by two


def _tokenizer():
    return tokenizer_with(
        *_TAGS, "<global-img>", "<image>", "<fake_token_around_image>", "<end_of_utterance>", "<|begin_of_text|>"
    )


def _configuration(config_class, tokenizer, vision_type):
    return config_class(
        text_config=text_config(tokenizer, "llama"),
        vision_config={
            "model_type": vision_type,
            "image_size": _TILE,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )


def _build_idefics2(folder):
    tokenizer = tokenizer_with("<image>", "<fake_token_around_image>", "<end_of_utterance>")
    config = Idefics2Config(
        text_config=text_config(tokenizer, "mistral", head_dim=16, sliding_window=None),
        vision_config={
            "image_size": 112,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        perceiver_config={
            "hidden_size": 64,
            "resampler_n_latents": 6,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = Idefics2Processor(
        image_processor=Idefics2ImageProcessor(
            size={"shortest_edge": 56, "longest_edge": 112}, do_image_splitting=True
        ),
        tokenizer=tokenizer,
        image_seq_len=6,
        chat_template=_TEMPLATE.replace("START", '""'),
    )
    return save(Idefics2ForConditionalGeneration(config), processor, folder)


def _build_idefics3(folder):
    tokenizer = _tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    config = _configuration(Idefics3Config, tokenizer, "idefics3_vision")
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 3 * _TILE}, max_image_size={"longest_edge": _TILE}
        ),
        tokenizer=tokenizer,
        image_seq_len=_TOKENS,
        chat_template=_TEMPLATE.replace("START", '"<|begin_of_text|>"'),
    )
    return save(Idefics3ForConditionalGeneration(config), processor, folder)


def _build_smolvlm(folder):
    tokenizer = _tokenizer()
    tokenizer._set_model_specific_special_tokens(
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        }
    )
    config = _configuration(SmolVLMConfig, tokenizer, "smolvlm_vision")
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(size={"longest_edge": 3 * _TILE}, max_image_size={"longest_edge": _TILE}),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(),
        image_seq_len=_TOKENS,
        chat_template=_TEMPLATE.replace("START", '"<|im_start|>"'),
    )
    return save(SmolVLMForConditionalGeneration(config), processor, folder)


IDEFICS2 = Family(
    _build_idefics2, _TURN, re.compile(r"(?:<fake_token_around_image>(?:<image>)+)+<fake_token_around_image>")
)
IDEFICS3 = Family(_build_idefics3, _TURN, _IMAGE)
SMOLVLM = Family(_build_smolvlm, _TURN, _IMAGE)

"""Gemma 4 without per-layer embeddings, as its larger models, and Gemma 4 Unified, which has no vision tower.

Layer 0 has a window, in which images attend both ways.
"""

import re

from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedImageProcessor,
    Gemma4UnifiedProcessor,
    Gemma4UnifiedVideoProcessor,
    Gemma4VideoProcessor,
)

from families.family import Family, save
from families.gemma import gemma_text, train_gemma_tokenizer

_TEMPLATE = """\
{{- bos_token -}}
{%- for turn in messages -%}
  {{- "<|turn>" + ("model" if turn.role == "assistant" else turn.role) + "\\n" -}}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<|image|>" }}{%- else -%}{{ part.text | trim }}{%- endif -%}
  {%- endfor -%}
  {{- "<turn|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|turn>model\\n" }}{%- endif -%}
"""
_TURN = re.compile(r"<\|turn>(?P<role>\w+)\n(?P<content>.*?)<turn\|>\n", re.DOTALL)
_IMAGE = re.compile(r"<\|image>(?:<\|image\|>)+<image\|>")


_PATCHES = {"patch_size": 4, "max_soft_tokens": 70}


def _tokenizer():
    return train_gemma_tokenizer(
        turns=("<|turn>", "<turn|>"),
        boi_token="<|image>",
        eoi_token="<image|>",
        image_token="<|image|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
        audio_token="<|audio|>",
    )


def _token_ids(processor):
    tokenizer = processor.tokenizer
    return {
        "image_token_id": tokenizer.image_token_id,
        "boi_token_id": tokenizer.boi_token_id,
        "eoi_token_id": tokenizer.eoi_token_id,
        "video_token_id": processor.video_token_id,
        "audio_token_id": tokenizer.audio_token_id,
    }


def build(folder, **text):
    """Write a checkpoint of Gemma 4; `text` changes its language model."""
    processor = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(**_PATCHES),
        tokenizer=_tokenizer(),  # gets a token for videos
        video_processor=Gemma4VideoProcessor(**_PATCHES),
        chat_template=_TEMPLATE,
    )
    settings = {"sliding_window": 100, "hidden_size_per_layer_input": 0, "global_head_dim": 32}
    settings |= {"use_bidirectional_attention": "vision", **text}
    config = Gemma4Config(
        text_config=gemma_text(processor.tokenizer, "gemma4_text", **settings),
        vision_config={
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 4,
            "position_embedding_size": 256,
        },
        audio_config=None,
        **_token_ids(processor),
    )
    return save(Gemma4ForConditionalGeneration(config), processor, folder)


def _build_unified(folder):
    processor = Gemma4UnifiedProcessor(
        feature_extractor=Gemma4UnifiedAudioFeatureExtractor(),
        image_processor=Gemma4UnifiedImageProcessor(**_PATCHES),
        tokenizer=_tokenizer(),
        video_processor=Gemma4UnifiedVideoProcessor(**_PATCHES),
        chat_template=_TEMPLATE,
    )
    config = Gemma4UnifiedConfig(
        text_config=gemma_text(processor.tokenizer, "gemma4_unified_text", sliding_window=100, global_head_dim=32),
        vision_config={"patch_size": 4, "mm_embed_dim": 64, "mm_posemb_size": 256, "output_proj_dims": 64},
        audio_config=None,
        **_token_ids(processor),
    )
    return save(Gemma4UnifiedForConditionalGeneration(config), processor, folder)


GEMMA4 = Family(build, _TURN, _IMAGE)
GEMMA4_UNIFIED = Family(_build_unified, _TURN, _IMAGE)

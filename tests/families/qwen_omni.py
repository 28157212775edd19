"""The thinkers of Qwen2.5-Omni and Qwen3-Omni, of which images and text are used."""

import re

from transformers import (
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with
from tiny_vlms import pixel_limits

_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_TEMPLATE = chatml_template("<|vision_start|><|image_pad|><|vision_end|>", images_first=False)
_AUDIO = {
    "num_mel_bins": 16,
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "output_dim": 64,
}


def _build_qwen2_5(folder):
    tokenizer = tokenizer_with(**_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2_5OmniThinkerConfig(
        text_config=text_config(tokenizer, "qwen2_5_omni_text", rope_parameters=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        audio_config=_AUDIO,
        image_token_index=ids("<|image_pad|>"),
        video_token_index=ids("<|video_pad|>"),
        audio_token_index=ids("<|AUDIO|>"),
        audio_start_token_id=ids("<|audio_bos|>"),
        audio_end_token_id=ids("<|audio_eos|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    processor = Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixel_limits("small", token_side=28)),
        video_processor=Qwen2VLVideoProcessor(),
        feature_extractor=WhisperFeatureExtractor(feature_size=16),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    return save(Qwen2_5OmniThinkerForConditionalGeneration(config), processor, folder)


def _build_qwen3(folder):
    tokenizer = tokenizer_with(**_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=text_config(
            tokenizer,
            "qwen3_omni_moe_text",
            head_dim=16,
            rope_parameters=rope,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
        ),
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        audio_config={**_AUDIO, "downsample_hidden_size": 8},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        audio_token_id=ids("<|AUDIO|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        audio_start_token_id=ids("<|audio_bos|>"),
        audio_end_token_id=ids("<|audio_eos|>"),
    )
    image_processor = Qwen2VLImageProcessor(
        size=pixel_limits("small", token_side=32), patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = Qwen3OmniMoeProcessor(
        image_processor=image_processor,
        video_processor=Qwen2VLVideoProcessor(),
        feature_extractor=WhisperFeatureExtractor(feature_size=16),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    return save(Qwen3OmniMoeThinkerForConditionalGeneration(config), processor, folder)


_IMAGE = re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>")
QWEN2_5 = Family(_build_qwen2_5, CHATML_TURN, _IMAGE)
QWEN3_MOE = Family(_build_qwen3, CHATML_TURN, _IMAGE)

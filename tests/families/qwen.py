"""Qwen2-VL and the mixture-of-experts Qwen3-VL."""

import re

from transformers import (
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from families.family import CHATML_TURN, Family, save, text_config
from tiny_vlms import QWEN2_5_VL_TEMPLATE, QWEN3_VL_TEMPLATE, pixel_limits, token_ids, train_qwen_tokenizer

_IMAGE = re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>")


def _build_qwen2_vl(folder):
    tokenizer = train_qwen_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config=text_config(tokenizer, "qwen2_vl_text", rope_parameters=rope),
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
        **token_ids(tokenizer),
    )
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixel_limits("small", token_side=28)),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=QWEN2_5_VL_TEMPLATE,
    )
    return save(Qwen2VLForConditionalGeneration(config), processor, folder)


def _build_qwen3_vl_moe(folder):
    tokenizer = train_qwen_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    config = Qwen3VLMoeConfig(
        text_config=text_config(
            tokenizer,
            "qwen3_vl_moe_text",
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
        **token_ids(tokenizer),
    )
    image_processor = Qwen2VLImageProcessor(
        size=pixel_limits("small", token_side=32), patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = Qwen3VLProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=QWEN3_VL_TEMPLATE,
    )
    return save(Qwen3VLMoeForConditionalGeneration(config), processor, folder)


QWEN2_VL = Family(_build_qwen2_vl, CHATML_TURN, _IMAGE)
QWEN3_VL_MOE = Family(_build_qwen3_vl_moe, CHATML_TURN, _IMAGE)

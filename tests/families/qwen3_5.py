"""Qwen3.5, dense and with experts: linear attention in three layers of four, gated softmax attention in the fourth."""

import re

from transformers import (
    Qwen2VLImageProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from families.family import CHATML_TURN, Family, save, text_config
from tiny_vlms import QWEN3_VL_TEMPLATE, pixel_limits, token_ids, train_qwen_tokenizer

_LAYERS = {  # layer 3 is the first that can be read, and not the last, whose output passes the final norm
    "num_hidden_layers": 5,
    "head_dim": 32,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
}


def _save(model_class, config_class, text, folder):
    tokenizer = train_qwen_tokenizer()
    config = config_class(
        text_config=text_config(tokenizer, **_LAYERS, **text),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
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
    return save(model_class(config), processor, folder)


def _build_dense(folder):
    text = {"model_type": "qwen3_5_text"}
    return _save(Qwen3_5ForConditionalGeneration, Qwen3_5Config, text, folder)


def _build_moe(folder):
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    sizes = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    text = {"model_type": "qwen3_5_moe_text", **experts, **sizes}
    return _save(Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig, text, folder)


_IMAGE = re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>")
DENSE = Family(_build_dense, CHATML_TURN, _IMAGE, layer=3)
MOE = Family(_build_moe, CHATML_TURN, _IMAGE, layer=3)

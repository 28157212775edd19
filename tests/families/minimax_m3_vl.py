"""MiniMax M3: softmax attention in its first layers, sparse attention after them, experts."""

import inspect
import re

from transformers import (
    MiniMaxM3SparseForConditionalGeneration,
    MiniMaxM3VLConfig,
    MiniMaxM3VLImageProcessor,
    MiniMaxM3VLProcessor,
    MiniMaxM3VLVideoProcessor,
)
from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import MiniMaxM3VLVisionModel

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with
from tiny_vlms import pixel_limits

_IMAGE, _START, _END = "]<]image[>[", "]<]start of image[>[", "]<]end of image[>["


def _build(folder):
    tokenizer = tokenizer_with(_IMAGE, "]<]video[>[", _START, _END)
    config = MiniMaxM3VLConfig(
        text_config=text_config(
            tokenizer,
            "minimax_m3_vl_text",
            head_dim=16,
            rotary_dim=8,
            num_local_experts=4,
            num_experts_per_tok=2,
            intermediate_size=32,
            dense_intermediate_size=64,
            shared_intermediate_size=32,
            mlp_layer_types=["dense", "sparse", "sparse"],
            layer_types=["full_attention", "full_attention", "minimax_m3_sparse"],
            index_n_heads=2,
            index_head_dim=16,
        ),
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
        },
        projector_hidden_size=64,
        image_token_index=tokenizer.convert_tokens_to_ids(_IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids("]<]video[>["),
    )
    processor = MiniMaxM3VLProcessor(
        image_processor=MiniMaxM3VLImageProcessor(size=pixel_limits("small", token_side=28)),
        tokenizer=tokenizer,
        video_processor=MiniMaxM3VLVideoProcessor(),
        chat_template=chatml_template(_IMAGE, images_first=False),
    )
    return save(MiniMaxM3SparseForConditionalGeneration(config), processor, folder)


# In transformers 5.15 the tower lets all images of a batch attend to one another.
_APART = "cu_seqlens" in inspect.getsource(MiniMaxM3VLVisionModel.forward)
_PATTERN = re.compile(f"{re.escape(_START)}(?:{re.escape(_IMAGE)})+{re.escape(_END)}")
FAMILY = Family(_build, CHATML_TURN, _PATTERN, batches=_APART)

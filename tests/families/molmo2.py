"""Molmo2: overlapping crops behind a small view, image tokens that see one another, a text the processor begins."""

import re

from transformers import (
    Molmo2Config,
    Molmo2ForConditionalGeneration,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with

_TOKENS = (
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<low_res_im_start>",
    "<frame_start>",
    "<im_end>",
    "<frame_end>",
    "<im_low>",
    "<|image|>",
    "<|video|>",
)


def _build(folder):
    tokenizer = tokenizer_with(*_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    config = Molmo2Config(
        text_config=text_config(tokenizer, "molmo2_text", head_dim=16, additional_vocab_size=8),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "image_size": [56, 56],
            "patch_size": 14,
            "num_position_embeddings": 16,
        },
        adapter_config={
            "vision_feature_layer": [2, 0],
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 64,
            "text_hidden_size": 64,
        },
        image_start_token_id=ids("<im_start>"),
        low_res_image_start_token_id=ids("<low_res_im_start>"),
        image_end_token_id=ids("<im_end>"),
        image_patch_id=ids("<im_patch>"),
        frame_start_token_id=ids("<frame_start>"),
        frame_end_token_id=ids("<frame_end>"),
    )
    processor = Molmo2Processor(
        image_processor=Molmo2ImageProcessor(size={"height": 56, "width": 56}, max_crops=3, overlap_margins=[1, 1]),
        video_processor=Molmo2VideoProcessor(),
        tokenizer=tokenizer,
        chat_template=chatml_template("<|image|>", images_first=True),
    )
    return save(Molmo2ForConditionalGeneration(config), processor, folder)


_VIEW = r"<(?:low_res_)?im_start>(?:<im_patch>|<im_col>)+<im_end>"
FAMILY = Family(_build, CHATML_TURN, re.compile(f"(?:{_VIEW})+"), batches=False)

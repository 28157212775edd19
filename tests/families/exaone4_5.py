"""EXAONE 4.5: Qwen2.5-VL's tower with fewer keys than queries over EXAONE 4, a sliding window in its first layers."""

import re

from transformers import (
    Exaone4_5_Config,
    Exaone4_5_ForConditionalGeneration,
    Exaone4_5_Processor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config
from tiny_vlms import pixel_limits, token_ids, train_qwen_tokenizer


def _build(folder):
    tokenizer = train_qwen_tokenizer()
    ids = token_ids(tokenizer)
    config = Exaone4_5_Config(
        text_config=text_config(tokenizer, "exaone4", sliding_window=24, sliding_window_pattern=4),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "num_key_value_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["image_token_id"],
        video_token_id=ids["video_token_id"],
    )
    processor = Exaone4_5_Processor(
        image_processor=Qwen2VLImageProcessor(size=pixel_limits("small", token_side=28)),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=chatml_template("<|vision_start|><|image_pad|><|vision_end|>", images_first=False),
    )
    return save(Exaone4_5_ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>"))

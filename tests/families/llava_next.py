"""LLaVA-NeXT over Qwen, as in `llava-hf/llava-next-72b-hf`: tiles chosen by aspect ratio, learned newlines."""

import re

from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
)

from families.family import CHATML_TURN, CLIP_TOWER, Family, chatml_template, save, text_config, tokenizer_with

_PINPOINTS = [[56, 56], [56, 112], [112, 56], [56, 168]]  # without a large square, tile counts differ


def _build(folder):
    tokenizer = tokenizer_with("<image>")
    config = LlavaNextConfig(
        text_config=text_config(tokenizer, "qwen2"),
        vision_config=CLIP_TOWER,
        image_grid_pinpoints=_PINPOINTS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            image_grid_pinpoints=_PINPOINTS, size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml_template("<image>\\n", images_first=True),
    )
    return save(LlavaNextForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

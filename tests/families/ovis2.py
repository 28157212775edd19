"""Ovis2 over Qwen2: pictures spelled in a visual vocabulary, tiles in rows and columns, indicator tokens between."""

import re

from transformers import Ovis2Config, Ovis2ForConditionalGeneration, Ovis2ImageProcessor, Ovis2Processor

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with

_INDICATORS = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]


def _build(folder):
    tokenizer = tokenizer_with("<image>", "<IMG_ATOM>", *_INDICATORS)
    language = text_config(tokenizer, "qwen2")
    config = Ovis2Config(
        text_config=language,
        vision_config={
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "vocab_size": 64,
            "hidden_stride": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(_INDICATORS),
        hidden_size=language["hidden_size"],
        vocab_size=language["vocab_size"],
    )
    processor = Ovis2Processor(
        image_processor=Ovis2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=6
        ),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(Ovis2ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"<IMG_START>(?:<IMG_(?:ATOM|GRID|COL|ROW)>)+<IMG_END>\n"))

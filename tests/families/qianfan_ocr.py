"""Qianfan-OCR: InternVL's tiles over Qwen3, with a placeholder of the template that is no token of the model."""

import re

from transformers import (
    GotOcr2ImageProcessor,
    QianfanOCRConfig,
    QianfanOCRForConditionalGeneration,
    QianfanOCRProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>")
    config = QianfanOCRConfig(
        text_config=text_config(tokenizer, "qwen3", head_dim=16),
        vision_config={
            "image_size": [56, 56],
            "patch_size": [14, 14],
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "drop_path_rate": 0.0,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = QianfanOCRProcessor(
        image_processor=GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(QianfanOCRForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"<img>(?:<IMG_CONTEXT>)+</img>\n"))

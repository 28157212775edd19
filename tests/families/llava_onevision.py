"""LLaVA-OneVision over Qwen2: SigLIP tiles chosen by aspect ratio, pooled where they are too many."""

import re

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with

_PINPOINTS = [[56, 56], [56, 112], [112, 56], [56, 168]]  # without a large square, tile counts differ


def _build(folder):
    tokenizer = tokenizer_with("<image>", "<video>")
    config = LlavaOnevisionConfig(
        text_config=text_config(tokenizer, "qwen2"),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "vision_use_head": False,
        },
        image_grid_pinpoints=_PINPOINTS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=_PINPOINTS, size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chatml_template("<image>\\n", images_first=True),
    )
    return save(LlavaOnevisionForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

"""VideoLLaMA 3 over Qwen2: pictures of any size, every patch a token."""

import re

from transformers import (
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with
from tiny_vlms import pixel_limits


def _build(folder):
    tokenizer = tokenizer_with(image_token="<image>", video_token="<video>")
    config = VideoLlama3Config(
        text_config=text_config(tokenizer, "qwen2"),
        vision_config={
            "patch_size": 14,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    processor = VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(size=pixel_limits("small", token_side=14)),
        tokenizer=tokenizer,
        video_processor=VideoLlama3VideoProcessor(),
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(VideoLlama3ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

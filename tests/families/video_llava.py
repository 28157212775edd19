"""Video-LLaVA, of which only the images are used: a tower of its own for them."""

import re

from transformers import (
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

from families.family import CHATML_TURN, CLIP_TOWER, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with("<image>", "<video>")
    config = VideoLlavaConfig(
        text_config=text_config(tokenizer, "llama"),
        vision_config=CLIP_TOWER,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_seq_length=16,
        video_seq_length=17,
    )
    processor = VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        video_processor=VideoLlavaVideoProcessor(),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(VideoLlavaForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

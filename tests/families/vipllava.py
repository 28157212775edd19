"""VipLLaVA: features of several layers of a CLIP tower side by side."""

import re

from transformers import (
    CLIPImageProcessor,
    LlavaProcessor,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with("<image>")
    config = VipLlavaConfig(
        text_config=text_config(tokenizer, "llama"),
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 12,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "projection_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(VipLlavaForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

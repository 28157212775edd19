"""LFM2-VL: convolutions in the first two decoder layers, pictures whole or in tiles, patches padded by a mask."""

import re

from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration, Lfm2VlImageProcessor, Lfm2VlProcessor

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with

_TAGS = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]


def _build(folder):
    tokenizer = tokenizer_with(
        *_TAGS,
        image_token="<image>",
        image_start_token="<|image_start|>",
        image_end_token="<|image_end|>",
        image_thumbnail="<|img_thumbnail|>",
    )
    tokenizer.add_special_tokens({"bos_token": "<|startoftext|>"})
    layers = ["conv", "conv", "full_attention", "conv", "full_attention"]
    config = Lfm2VlConfig(
        text_config={
            **text_config(tokenizer, "lfm2", block_auto_adjust_ff_dim=False),
            "num_hidden_layers": len(layers),
            "layer_types": layers,
        },
        vision_config={
            "model_type": "siglip2_vision_model",
            "num_patches": 16,
            "patch_size": 16,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "vision_use_head": False,
        },
        image_token_id=tokenizer.image_token_id,
        projector_hidden_size=64,
        downsample_factor=2,
    )
    processor = Lfm2VlProcessor(
        # One of the test pictures is above the limit and cut into tiles, the others are not.
        image_processor=Lfm2VlImageProcessor(
            tile_size=64, min_tiles=2, max_tiles=4, min_image_tokens=4, max_image_tokens=9, max_pixels_tolerance=0.9
        ),
        tokenizer=tokenizer,
        chat_template='{{- "<|startoftext|>" -}}' + chatml_template("<image>", images_first=False),
    )
    return save(Lfm2VlForConditionalGeneration(config), processor, folder)


FAMILY = Family(
    _build,
    CHATML_TURN,
    re.compile(r"<\|image_start\|>(?:<image>|<\|img_row_\d_col_\d\|>|<\|img_thumbnail\|>)+<\|image_end\|>"),
    layer=2,
)

"""HunYuan-VL: rows of patches with learned ends, positions of width, height and image number."""

import re

from transformers import HunYuanVLConfig, HunYuanVLForConditionalGeneration, HunYuanVLImageProcessor, HunYuanVLProcessor

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with(
        image_token="<hy_place_holder_no_102>",
        image_start_token="<hy_place_holder_no_100>",
        image_end_token="<hy_place_holder_no_101>",
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2, 2]}
    config = HunYuanVLConfig(
        text_config=text_config(tokenizer, "hunyuan_vl_text", head_dim=16, rope_parameters=rope),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "out_hidden_size": 64,
            "max_image_size": 256,
            "text_hidden_size": 64,
        },
        image_token_id=tokenizer.image_token_id,
        im_start_id=tokenizer.image_start_token_id,
        im_end_id=tokenizer.image_end_token_id,
        tie_word_embeddings=False,
    )
    processor = HunYuanVLProcessor(
        image_processor=HunYuanVLImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 256 * 256}),
        tokenizer=tokenizer,
        chat_template=chatml_template(
            tokenizer.image_start_token + tokenizer.image_token + tokenizer.image_end_token, images_first=False
        ),
    )
    return save(HunYuanVLForConditionalGeneration(config), processor, folder)


_IMAGE = r"<hy_place_holder_no_100>(?:<hy_place_holder_no_102>)+<hy_place_holder_no_101>"
FAMILY = Family(_build, CHATML_TURN, re.compile(_IMAGE), batches=False)

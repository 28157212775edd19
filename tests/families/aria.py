"""Aria: an Idefics3 tower whose patches a resampler turns into a fixed number of tokens, over experts."""

import re

from transformers import AriaConfig, AriaForConditionalGeneration, AriaImageProcessor, AriaProcessor

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with(image_token="<|img|>")
    config = AriaConfig(
        text_config=text_config(
            tokenizer, "aria_text", intermediate_size=32, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1
        ),
        vision_config={
            "model_type": "idefics3_vision",
            "image_size": 490,
            "patch_size": 70,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
        },
        projector_patch_to_query_dict={49: 16, 196: 32},
        image_token_index=tokenizer.convert_tokens_to_ids("<|img|>"),
    )
    processor = AriaProcessor(
        image_processor=AriaImageProcessor(max_image_size=490, min_image_size=70),
        tokenizer=tokenizer,
        size_conversion={490: 16, 980: 32},
        chat_template=chatml_template("<fim_prefix><|img|><fim_suffix>", images_first=False),
    )
    return save(AriaForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"<fim_prefix>(?:<\|img\|>)+<fim_suffix>"))

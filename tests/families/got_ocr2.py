"""GOT-OCR 2 over Qwen2: a SAM tower, 256 tokens a picture or tile; published without a chat template."""

import re

from transformers import (
    GotOcr2Config,
    GotOcr2ForConditionalGeneration,
    GotOcr2ImageProcessor,
    GotOcr2Processor,
)

from families.family import Family, chatml_template, save, text_config, tokenizer_with

_SIDE = 128  # of a picture; 64 x 64 patches, of which two convolutions leave 16 x 16
_TURN = re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<content>.*?)<\|im_end\|>", re.DOTALL)


def _build(folder):
    tokenizer = tokenizer_with("<img>", "</img>", "<imgpad>")
    config = GotOcr2Config(
        text_config=text_config(tokenizer, "qwen2"),
        vision_config={
            "image_size": _SIDE,
            "patch_size": 2,
            "num_hidden_layers": 2,
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "output_channels": 16,
            "window_size": 14,
            "global_attn_indexes": [],
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=256,
    )
    processor = GotOcr2Processor(
        image_processor=GotOcr2ImageProcessor(size={"height": _SIDE, "width": _SIDE}),
        tokenizer=tokenizer,
        chat_template=chatml_template("<img><imgpad></img>\\n", images_first=True).replace(
            "<|im_end|>\\n", "<|im_end|>"
        ),
    )
    return save(GotOcr2ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, _TURN, re.compile(r"<img>(?:<imgpad>)+</img>\n"))

"""Step 3.7: a view of the whole picture behind its local patches, attention heads that differ between layers."""

import re

from transformers import (
    Step3p7Config,
    Step3p7ForConditionalGeneration,
    Step3p7ImageProcessor,
    Step3p7Processor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with(
        "<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>"
    )
    config = Step3p7Config(
        text_config=text_config(
            tokenizer,
            "step3p5",
            head_dim=16,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            sliding_window=16,
            num_sliding_attention_heads=6,
            n_routed_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            share_expert_dim=32,
            mlp_layer_types=["dense", "sparse", "sparse"],
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "max_position_embeddings": 64,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<im_patch>"),
    )
    processor = Step3p7Processor(
        image_processor=Step3p7ImageProcessor(size={"height": 112, "width": 112}, patch_size=56),
        tokenizer=tokenizer,
        chat_template=chatml_template("<im_patch>", images_first=False),
    )
    return save(Step3p7ForConditionalGeneration(config), processor, folder)


_PATCH = r"<patch_start>(?:<im_patch>)+<patch_end>(?:<patch_newline>)?"
FAMILY = Family(_build, CHATML_TURN, re.compile(f"(?:{_PATCH})*<im_start>(?:<im_patch>)+<im_end>"))

"""Kimi K2.5: pictures of any size over DeepSeek-V3's latent attention and experts."""

import re

from transformers import (
    Kimi_K25Config,
    Kimi_K25ForConditionalGeneration,
    Kimi_K25ImageProcessor,
    Kimi_K25Processor,
    Kimi_K25VideoProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with


def _build(folder):
    tokenizer = tokenizer_with("<|media_begin|>", "<|media_end|>", "<|media_pad|>", "<|kimi_k25_video_placeholder|>")
    text = text_config(
        tokenizer,
        "deepseek_v3",
        num_key_value_heads=4,
        q_lora_rank=24,
        kv_lora_rank=16,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        first_k_dense_replace=1,
        moe_intermediate_size=32,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
    )
    config = Kimi_K25Config(
        text_config=text,
        vision_config={
            "patch_size": 14,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
        },
        projection_hidden_size=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<|media_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|media_begin|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|media_end|>"),
        tie_word_embeddings=False,
    )
    processor = Kimi_K25Processor(
        image_processor=Kimi_K25ImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Kimi_K25VideoProcessor(),
        chat_template=chatml_template("<|media_begin|>image<|media_pad|><|media_end|>", images_first=False),
    )
    return save(Kimi_K25ForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"<\|media_begin\|>image(?:<\|media_pad\|>)+<\|media_end\|>"))

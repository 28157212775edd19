"""Granite 4 Vision: LLaVA-NeXT's tiles through windowed Q-Formers, added to the hidden state before several layers."""

import re

from transformers import (
    Granite4VisionConfig,
    Granite4VisionForConditionalGeneration,
    Granite4VisionProcessor,
    LlavaNextImageProcessor,
)

from families.family import CHATML_TURN, Family, chatml_template, save, text_config, tokenizer_with

_PINPOINTS = [[56, 56], [56, 112], [112, 56], [56, 168]]  # without a large square, tile counts differ


def _build(folder):
    tokenizer = tokenizer_with("<image>")
    config = Granite4VisionConfig(
        text_config=text_config(
            tokenizer,
            "granite4_vision_text",
            embedding_multiplier=3.0,
            attention_multiplier=0.2,
            residual_multiplier=0.5,
        ),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 56,
            "patch_size": 14,
            "num_hidden_layers": 3,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "vision_use_head": False,
        },
        qformer_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 64,
            "num_attention_heads": 1,
            "encoder_hidden_size": 64,
            "num_hidden_layers": 1,
            "intermediate_size": 64,
            "cross_attention_frequency": 1,
            "max_position_embeddings": 64,
            "use_qformer_text_input": False,
        },
        vision_feature_select_strategy="full",
        image_grid_pinpoints=_PINPOINTS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        downsample_rate="1/2",
        deepstack_layer_map=[[-2, 0], [-3, 1]],
        spatial_target_layers=[0, 1, 1, 2],
        image_seq_length=4,
    )
    processor = Granite4VisionProcessor(
        image_processor=LlavaNextImageProcessor(
            image_grid_pinpoints=_PINPOINTS, size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=chatml_template("<image>\\n", images_first=False),
    )
    return save(Granite4VisionForConditionalGeneration(config), processor, folder)


FAMILY = Family(_build, CHATML_TURN, re.compile(r"(?:<image>)+\n"))

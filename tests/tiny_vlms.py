"""Tiny checkpoints with random weights, in the real file layout, for three families; and pictures to show them.

Every checkpoint has three decoder layers, so that a truncated model differs from a whole one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tiny_llava import build_llava, spread_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Family = Literal["llava", "qwen2_5_vl", "qwen3_vl"]
Size = Literal["small", "large"]
FAMILIES: tuple[Family, ...] = ("llava", "qwen2_5_vl", "qwen3_vl")

# Plain ASCII on purpose: other characters must go through the tokenizers' byte fallback.
TEXTS = (
    "What is the colour of the shape in the picture? The shape is red. Describe the image in detail.",
    "Is there a circle in the image? No, there is a triangle. Yes. How many squares can you see? Two of them.",
    "You are a helpful assistant. system user assistant USER: ASSISTANT: Answer the question with one word only.",
    "Compare the first picture with the second picture, and say which of the two is larger, darker and older.",
)

QWEN_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Both print what the published templates print for text and images. The older one brings a system prompt of its own;
# the newer one shows images of user turns alone.
_QWEN_TURNS = """\
{%- for turn in messages -%}
  {{- SYSTEM -}}
  {{- "<|im_start|>" + turn.role + "\\n" -}}
  {%- if turn.content is string -%}
    {{- turn.content -}}
  {%- else -%}
    {%- for part in turn.content -%}
      {%- if part.type == "image" -%}
        {{- "<|vision_start|><|image_pad|><|vision_end|>" -}}
      {%- elif part.type == "video" -%}
        {{- "<|vision_start|><|video_pad|><|vision_end|>" -}}
      {%- else -%}
        {{- part.text -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
_DEFAULT_SYSTEM = (
    '{%- if loop.first and turn.role != "system" -%}'
    '{{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" -}}'
    "{%- endif -%}"
)
QWEN2_5_VL_TEMPLATE = _QWEN_TURNS.replace("  {{- SYSTEM -}}", "  " + _DEFAULT_SYSTEM)
QWEN3_VL_TEMPLATE = _QWEN_TURNS.replace("  {{- SYSTEM -}}\n", "").replace(
    '      {%- if part.type == "image" -%}\n',
    '      {%- if part.type == "image" and turn.role != "user" -%}\n      {%- elif part.type == "image" -%}\n',
)


def build_checkpoint(family: str, folder: Path, *, size: Size = "small", seed: int = 0) -> Path:
    """Write a checkpoint of `family` with its processor; `large` gives at least 256 vision tokens an image."""
    if family not in FAMILIES:
        from families import FAMILIES as FURTHER

        return FURTHER[family].build(folder)
    if family == "llava":
        image_size = {"small": 84, "large": 224}[size]
        return build_llava(folder, texts=TEXTS, seed=seed, image_size=image_size, patch_size=14)
    build_qwen = {"qwen2_5_vl": _build_qwen2_5_vl, "qwen3_vl": _build_qwen3_vl}[family]
    return build_qwen(folder, size, seed)


def make_pictures(
    folder: Path, n: int, seed: int, sizes: Sequence[tuple[int, int]] = ((96, 96), (120, 80), (64, 112))
) -> list[Path]:
    """Write `n` pictures of gradients and shapes, PNG and JPEG in turn, their (width, height) taken from `sizes`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    paths = []
    for number in range(n):
        path = folder / f"picture-{number:04d}.{('png', 'jpg')[number % 2]}"
        _draw_picture(*sizes[number % len(sizes)], generator).save(path)
        paths.append(path)
    return paths


def _draw_picture(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    corners = generator.uniform(0, 255, size=(3, 3))  # [colour at the origin / across / down, channel]
    pixels = corners[0] + (corners[1] - corners[0]) * across[..., None] * 0.5
    pixels = pixels + (corners[2] - corners[0]) * down[..., None] * 0.5  # [height, width, channel]
    pixels = pixels + generator.normal(0, 8, size=pixels.shape)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pencil = ImageDraw.Draw(picture)
    for _ in range(int(generator.integers(2, 6))):
        left, top = int(generator.integers(0, width * 3 // 4)), int(generator.integers(0, height * 3 // 4))
        right = left + int(generator.integers(width // 8, width // 2))
        bottom = top + int(generator.integers(height // 8, height // 2))
        colour = tuple(int(value) for value in generator.integers(0, 256, size=3))
        draw = (pencil.ellipse, pencil.rectangle)[int(generator.integers(2))]
        draw((left, top, right, bottom), fill=colour)
    return picture


def train_qwen_tokenizer(vocab: int = 700) -> Qwen2Tokenizer:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(TEXTS, trainer)
    model = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(QWEN_SPECIAL_TOKENS[1:]),
        model_max_length=4096,
    )
    missing = set(QWEN_SPECIAL_TOKENS) - set(tokenizer.all_special_tokens)
    assert not missing, missing
    return tokenizer


def _text_settings(tokenizer: Qwen2Tokenizer) -> dict[str, object]:
    return {
        "vocab_size": 64 * (len(tokenizer) // 64 + 1),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def token_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    return {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}


def pixel_limits(size: Size, token_side: int) -> dict[str, int]:
    """Limits of the resized picture in pixels: 4 to 64 vision tokens, or 256 to 1024."""
    fewest, most = {"small": (4, 64), "large": (256, 1024)}[size]
    return {"shortest_edge": fewest * token_side**2, "longest_edge": most * token_side**2}


def _build_qwen2_5_vl(folder: Path, size: Size, seed: int) -> Path:
    tokenizer = train_qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            **_text_settings(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,  # one block with windows of 2 x 2 tokens, one with full attention
            "fullatt_block_indexes": [1],
        },
        **token_ids(tokenizer),
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    spread_weights(model, seed)
    model.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixel_limits(size, token_side=28)),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=QWEN2_5_VL_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _build_qwen3_vl(folder: Path, size: Size, seed: int) -> Path:
    tokenizer = train_qwen_tokenizer()
    config = Qwen3VLConfig(
        text_config={
            **_text_settings(tokenizer),
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **token_ids(tokenizer),
    )
    model = Qwen3VLForConditionalGeneration(config)
    spread_weights(model, seed)
    model.save_pretrained(folder)
    image_processor = Qwen2VLImageProcessor(
        size=pixel_limits(size, token_side=32), patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    Qwen3VLProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=QWEN3_VL_TEMPLATE,
    ).save_pretrained(folder)
    return folder

"""The checkpoints that are timed: random weights in the shape of LLaVA-1.5 and of Qwen3-VL, scaled down.

A scaled-down shape keeps what decides where time goes: how many tokens an image becomes, how many patches the tower
sees for each of them, and about how the work of the tower compares with that of the decoder.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn

sys.path[1:1] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("examples", "tests")]
from tiny_llava import build_llava, spread_weights  # noqa: E402
from tiny_vlms import QWEN3_VL_TEMPLATE, token_ids, train_qwen_tokenizer  # noqa: E402

if TYPE_CHECKING:
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.sample_preparer import SamplePreparer

TEXT = "the a what is which how many where color shape of left right above picture small large red dog on to and"
QUESTION_WORDS = 62
QWEN_PATCH, QWEN_MERGE = 16, 2


@dataclass(frozen=True, slots=True)
class Shape:
    """One checkpoint to be built: `sizes` are the arguments of `build`, `picture` is (width, height) in pixels."""

    name: str
    family: str
    sizes: dict[str, Any]
    picture: tuple[int, int]

    def build(self, folder: Path, layers: int | None = None) -> Path:
        """Write the checkpoint with its processor, with another number of decoder layers where one is given."""
        sizes = self.sizes | ({"text_layers": layers} if layers else {})
        if self.family == "llava":
            return build_llava(folder, texts=[TEXT] * 20, **sizes)
        return build_qwen3_vl(folder, picture=self.picture, **sizes)

    def prepared_sample(self, preparer: SamplePreparer, row: int) -> PreparedSample:
        """Return a made-up sample; without an answer, because what follows the question is cut off before the pass."""
        question = " ".join(random.Random(row).choices(TEXT.split(), k=QUESTION_WORDS))
        turns = (Turn("user", (ImagePart(0), TextPart(question))),)
        identity, images = RowIdentity(row, "benchmark", None, "absent"), (ImageReference("", ""),)
        sample = Sample(identity, turns, images, images_in_front=False, text_sha256="")
        pixels = np.random.default_rng(row).integers(0, 256, (*self.picture[::-1], 3), dtype=np.uint8)
        return preparer.prepare(sample, [Image.fromarray(pixels)])


# A third of LLaVA-1.5-7B's tower (24 x 1024) and a fifth of its decoder (32 x 4096) in width, all of its depth there.
LLAVA = Shape(
    "LLaVA-like",
    "llava",
    {
        "image_size": 336,
        "vision_layers": 12,
        "vision_hidden": 512,
        "vision_heads": 8,
        "text_layers": 32,
        "text_hidden": 768,
        "text_heads": 12,
    },
    picture=(320, 240),
)
# About 0.3 of Qwen3-VL-4B (tower 24 x 1024, decoder 36 x 2560) in width, a third of its tower and two thirds of its
# decoder in depth; four times as many patches as tokens, four query heads a key head and MLPs of 4 and 3.8 as there.
QWEN3_VL = Shape(
    "Qwen3-VL-like",
    "qwen3_vl",
    {
        "vision_layers": 8,
        "vision_hidden": 320,
        "vision_heads": 5,
        "deepstack": [1, 3, 5],
        "text_layers": 24,
        "text_hidden": 768,
        "text_heads": 8,
        "text_key_heads": 2,
        "head_dim": 128,
        "text_intermediate": 2944,
    },
    picture=(768, 768),
)
SHAPES = {shape.family: shape for shape in (LLAVA, QWEN3_VL)}

# Small enough for a test, and for nothing else.
QUICK_SHAPES = {
    "llava": Shape("LLaVA-like", "llava", {"text_layers": 3}, picture=(320, 240)),
    "qwen3_vl": Shape(
        "Qwen3-VL-like",
        "qwen3_vl",
        {
            "vision_layers": 3,
            "vision_hidden": 32,
            "vision_heads": 2,
            "deepstack": [0, 1],
            "text_layers": 3,
            "text_hidden": 64,
            "text_heads": 4,
            "text_key_heads": 2,
            "head_dim": 16,
            "text_intermediate": 128,
        },
        picture=(128, 96),
    ),
}


def build_qwen3_vl(
    folder: Path,
    *,
    picture: tuple[int, int],
    vision_layers: int,
    vision_hidden: int,
    vision_heads: int,
    deepstack: list[int],
    text_layers: int,
    text_hidden: int,
    text_heads: int,
    text_key_heads: int,
    head_dim: int,
    text_intermediate: int,
) -> Path:
    """Write a random Qwen3-VL checkpoint whose processor shows pictures of the given size unchanged."""
    tokenizer = train_qwen_tokenizer()
    # As there: of the pairs of rotated features of a head, 24 of 64 turn with time, 20 with height, 20 with width.
    side = head_dim // 2 * 5 // 16
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": 64 * (len(tokenizer) // 64 + 1),
            "hidden_size": text_hidden,
            "intermediate_size": text_intermediate,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads,
            "num_key_value_heads": text_key_heads,
            "head_dim": head_dim,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [head_dim // 2 - 2 * side, side, side],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_hidden,
            "intermediate_size": 4 * vision_hidden,
            "num_heads": vision_heads,
            "out_hidden_size": text_hidden,
            "patch_size": QWEN_PATCH,
            "spatial_merge_size": QWEN_MERGE,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": deepstack,
        },
        **token_ids(tokenizer),
    )
    model = Qwen3VLForConditionalGeneration(config)
    spread_weights(model, seed=0)
    model.save_pretrained(folder)
    limits = {"shortest_edge": 1024, "longest_edge": picture[0] * picture[1]}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size=limits, patch_size=QWEN_PATCH, merge_size=QWEN_MERGE, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=QWEN3_VL_TEMPLATE,
    ).save_pretrained(folder)
    return folder

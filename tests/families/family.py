"""What the tests know of one family, and what its builders share: a tokenizer, a language model, a template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_llava import spread_weights
from tiny_vlms import train_qwen_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIP_TOWER = {  # pictures of 56 pixels: 16 patches, and one for the class
    "model_type": "clip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "projection_dim": 32,
}
CHATML_TURN = re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<content>.*?)<\|im_end\|>\n", re.DOTALL)


@dataclass(frozen=True)
class Family:
    """`build(folder)` writes a checkpoint; `turn` and `image` are patterns over the text with expanded images.

    `one_question`: the model takes a question and its answer, which is a suffix beside that text.
    `layer` is the first decoder layer that can be read; `model_type` is given where it is not the family's name;
    `batches` tells whether rows of a batch are those of single samples.
    """

    build: Callable[[Path], Path]
    turn: re.Pattern[str]
    image: re.Pattern[str]
    one_question: bool = False
    layer: int = 0
    model_type: str | None = None
    batches: bool = True


def chatml_template(image: str, *, images_first: bool) -> str:
    """Return a ChatML template without a system prompt of its own; `image` is a Jinja string literal's content."""
    part = '{%- if part.type == "image" -%}{{ "IMAGE" }}{%- else -%}{{ part.text }}{%- endif -%}'
    loops = "{%- for part in turn.content -%}" + part + "{%- endfor -%}"
    if images_first:
        loops = (
            '{%- for part in turn.content if part.type == "image" -%}{{ "IMAGE" }}{%- endfor -%}'
            '{%- for part in turn.content if part.type == "text" -%}{{ part.text }}{%- endfor -%}'
        )
    return (
        '{%- for turn in messages -%}{{ "<|im_start|>" + turn.role + "\\n" }}'
        + loops.replace("IMAGE", image)
        + '{{ "<|im_end|>\\n" }}{%- endfor -%}'
        + '{%- if add_generation_prompt -%}{{ "<|im_start|>assistant\\n" }}{%- endif -%}'
    )


def tokenizer_with(*special: str, **named: str) -> Any:
    """Return a byte-level tokenizer with more special tokens; the `named` ones become its attributes."""
    tokenizer = train_qwen_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)}, replace_extra_special_tokens=False)
    if named:
        tokenizer._set_model_specific_special_tokens(named)
        tokenizer.add_tokens(list(named.values()), special_tokens=True)
    return tokenizer


def text_config(tokenizer: Any, model_type: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of a language model of three layers."""
    return {
        "model_type": model_type,
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
        **changes,
    }


def save(model: Any, processor: Any, folder: Path) -> Path:
    """Give the model weights under which a wrong choice of tokens is seen, and write both."""
    spread_weights(model, 0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

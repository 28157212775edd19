"""A tiny LLaVA-1.5 checkpoint with random weights, in the file layout of a real one.

It is made for demonstrations and tests on machines without a network or a GPU: every file a real checkpoint has is
there, and ``AutoProcessor`` and ``AutoModelForImageTextToText`` load it from its folder. It knows nothing.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# Prints what LLaVA-1.5's published template prints: the role in capitals (none before a system text), then every
# image of the turn, then its texts with a space after each.
CHAT_TEMPLATE = """\
{%- for turn in messages -%}
  {%- if turn.role != "system" -%}{{ turn.role | upper + ": " }}{%- endif -%}
  {%- if turn.content is string -%}
    {{ turn.content + " " }}
  {%- else -%}
    {%- for part in turn.content if part.type == "image" -%}{{ "<image>\\n" }}{%- endfor -%}
    {%- for part in turn.content if part.type == "text" -%}{{ part.text + " " }}{%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "ASSISTANT:" }}{%- endif -%}
"""

ATTENTION_LOGIT_STD = 6.0  # of the language model; at 0 every token would attend to all others alike


def build_llava(
    folder: str | Path,
    *,
    texts: Iterable[str],
    seed: int = 0,
    image_size: int = 84,
    patch_size: int = 14,
    vision_layers: int = 3,
    vision_hidden: int = 64,
    vision_heads: int = 4,
    text_layers: int = 3,
    text_hidden: int = 64,
    text_heads: int = 4,
    vocab: int = 700,
) -> Path:
    """Write a random LLaVA-1.5 checkpoint and its processor.

    The same arguments give the same bytes on every call.

    Parameters
    ----------
    folder
        Where the files go; created where missing, files of the same names are replaced.
    texts
        What the tokenizer is trained on.
    seed
        Seed of the weights.
    image_size, patch_size
        Side of the square picture the vision tower sees, and of its patches, in pixels: an image becomes
        ``(image_size / patch_size) ** 2`` vision tokens.
    vision_layers, vision_hidden, vision_heads
        Shape of the CLIP tower; the features are read one layer before its last.
    text_layers, text_hidden, text_heads
        Shape of the Llama language model.
    vocab
        Highest number of pieces of the tokenizer, with 256 bytes, without ``<image>`` and ``<pad>``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If `patch_size` does not divide `image_size`.
    """
    if image_size % patch_size:
        raise ValueError(f"patch_size must divide image_size: {image_size} / {patch_size}")
    folder = Path(folder)
    tokenizer = train_llama_tokenizer(texts, vocab)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            num_hidden_layers=vision_layers,
            hidden_size=vision_hidden,
            intermediate_size=2 * vision_hidden,
            num_attention_heads=vision_heads,
            projection_dim=vision_hidden,
        ),
        text_config=LlamaConfig(
            vocab_size=64 * math.ceil(len(tokenizer) / 64),  # real checkpoints round up as well
            num_hidden_layers=text_layers,
            hidden_size=text_hidden,
            intermediate_size=2 * text_hidden,
            num_attention_heads=text_heads,
            num_key_value_heads=text_heads,
            max_position_embeddings=4096,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    spread_weights(model, seed)
    model.save_pretrained(folder)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which the strategy "default" takes away again
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def train_llama_tokenizer(texts: Iterable[str], vocab: int) -> LlamaTokenizer:
    """Return a Llama tokenizer: pieces with a leading ``▁``, byte fallback, a BOS in front.

    Parameters
    ----------
    texts
        What the pieces are learned from. Words are learned one by one, so no piece holds a line break and none
        crosses a space, as in the real one.
    vocab
        Highest number of pieces, special tokens and bytes included.
    """
    bytes_in_order = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.BPE(byte_fallback=True))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<unk>", "<s>", "</s>", *bytes_in_order],
        initial_alphabet=["▁", *map(chr, range(33, 127))],
        show_progress=False,
    )
    learner.train_from_iterator((" ".join(text.split()) for text in texts), trainer)
    model = json.loads(learner.to_str())["model"]
    tokenizer = LlamaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        legacy=False,
        add_bos_token=True,
        padding_side="left",
        model_max_length=4096,
    )
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<image>"]})
    return tokenizer


@torch.no_grad()
def spread_weights(model: torch.nn.Module, seed: int) -> None:
    """Give `model` seeded random weights under which stage 1 and 2 of the method have something to find.

    The usual initialisation (standard deviation 0.02) makes attention almost uniform and all vectors almost equal:
    any choice of vision tokens would average to the same vector, and a wrong choice would go unseen. Here every
    matrix keeps the scale of what it multiplies (variance 1 / inputs), query and key projections are larger, so
    that attention is well away from uniform, and embeddings have unit variance, so that tokens and patch positions
    differ. The entries of a table share a direction, as those of trained models do: the instruction tokens' queries
    then agree somewhat, and their mean attention does not level out. Biases and norms are not left at 0 and 1, or
    skipping one would change nothing.

    Parameters
    ----------
    model
        Changed in place; any Hugging Face vision-language model.
    seed
        Seed of the generator; weights are drawn in the order of their names.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        module = name.rsplit(".", 2)[-2]
        gain = math.sqrt(ATTENTION_LOGIT_STD) if module in {"q_proj", "k_proj", "q_norm", "k_norm"} else 1.0
        if "embed" in module and weight.dim() == 2:  # noqa: PLR2004  token and position tables: [entries, hidden]
            weight.copy_(noise + torch.randn(weight.shape[1], generator=generator))
        elif weight.dim() >= 2:  # noqa: PLR2004  linear maps and patch convolutions: [outputs, inputs...]
            weight.copy_(noise * gain / math.sqrt(weight[0].numel()))
        elif name.endswith(".bias"):
            weight.copy_(0.1 * noise)
        else:  # scales of norms, and CLIP's class embedding
            weight.copy_(gain * (1 + 0.1 * noise))

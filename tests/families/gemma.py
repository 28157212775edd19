"""Gemma 3, whose layer 0 has a window, of 40 tokens here, and images that attend both ways; and PaliGemma."""

import json
import re

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from families.family import Family, save, text_config
from tiny_vlms import TEXTS

# A system turn has no place of its own: its text stands at the beginning of the first user turn.
_TEMPLATE = """\
{{- bos_token -}}
{%- set system = messages[0].content[0].text + "\\n\\n" if messages[0].role == "system" else "" -%}
{%- for turn in messages if turn.role != "system" -%}
  {%- if (turn.role == "user") != (loop.index0 % 2 == 0) -%}{{ raise_exception("roles must alternate") }}{%- endif -%}
  {{- "<start_of_turn>" + ("model" if turn.role == "assistant" else "user") + "\\n" -}}
  {%- if loop.first -%}{{ system }}{%- endif -%}
  {%- for part in turn.content -%}
    {%- if part.type == "image" -%}{{ "<start_of_image>" }}{%- else -%}{{ part.text | trim }}{%- endif -%}
  {%- endfor -%}
  {{- "<end_of_turn>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<start_of_turn>model\\n" }}{%- endif -%}
"""
_TURN = re.compile(r"<start_of_turn>(?P<role>\w+)\n(?P<content>.*?)<end_of_turn>\n", re.DOTALL)
# What inside a user turn is no text of the user: images with their marks, and the text of the system turn.
_IMAGE = re.compile(
    r"\n\n<start_of_image>(?:<image_soft_token>)+<end_of_image>\n\n|(?<=user\n)Be brief; name colours only\.\n\n"
)


def train_gemma_tokenizer(turns=("<start_of_turn>", "<end_of_turn>"), **named):
    """Return a Gemma tokenizer: spaces are pieces' first character, byte fallback; `named` tokens are attributes."""
    bytes_in_order = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.BPE(byte_fallback=True))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *bytes_in_order],
        initial_alphabet=["▁", "\n", *map(chr, range(33, 127))],
        show_progress=False,
    )
    learner.train_from_iterator(TEXTS, trainer)
    model = json.loads(learner.to_str())["model"]
    tokenizer = GemmaTokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], model_max_length=4096
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(turns)})
    tokenizer._set_model_specific_special_tokens(named)
    tokenizer.add_tokens(list(named.values()), special_tokens=True)
    return tokenizer


def siglip(image_size, **changes):
    return {
        "model_type": "siglip_vision_model",
        "image_size": image_size,
        "patch_size": 14,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "vision_use_head": False,
        **changes,
    }


def gemma_text(tokenizer, model_type, **changes):
    return text_config(
        tokenizer,
        model_type,
        **{"head_dim": 16, "bos_token_id": tokenizer.bos_token_id, **changes},
    )


def _build_gemma3(folder):
    tokenizer = train_gemma_tokenizer(
        boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    config = Gemma3Config(
        text_config=gemma_text(tokenizer, "gemma3_text", query_pre_attn_scalar=16, sliding_window=40),
        vision_config=siglip(112),
        mm_tokens_per_image=16,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    assert config.text_config.layer_types == ["sliding_attention"] * 3
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 112, "width": 112}),
        tokenizer=tokenizer,
        image_seq_length=16,
        chat_template=_TEMPLATE,
    )
    return save(Gemma3ForConditionalGeneration(config), processor, folder)


def build_paligemma(folder, model_type="gemma", **text):
    """Write a checkpoint without chat template, as the published ones; with `gemma2` it is a PaliGemma 2."""
    tokenizer = train_gemma_tokenizer()
    image_processor = SiglipImageProcessor(size={"height": 56, "width": 56})
    image_processor.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor=image_processor, tokenizer=tokenizer)  # adds its tokens
    config = PaliGemmaConfig(
        text_config=gemma_text(tokenizer, model_type, **text),
        vision_config=siglip(56),
        image_token_index=processor.image_token_id,
        projection_dim=64,
        hidden_size=64,
    )
    return save(PaliGemmaForConditionalGeneration(config), processor, folder)


GEMMA3 = Family(_build_gemma3, _TURN, _IMAGE)
# The question stands between the first token and the newline that ends the prefix.
PALIGEMMA = Family(
    build_paligemma,
    re.compile(r"<bos>(?P<content>.*)\n\Z", re.DOTALL),
    re.compile(r"(?:<image>)+"),
    one_question=True,
)

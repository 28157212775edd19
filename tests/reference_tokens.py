"""What goes into the full model of the second road, and which of its tokens are users' and assistants' texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from families import FAMILIES as FURTHER_FAMILIES
from scalselect.records import TextPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.records import Sample

IMAGE_TOKEN = {"llava": "<image>", "qwen2_5_vl": "<|image_pad|>", "qwen3_vl": "<|image_pad|>"}
_QWEN_TURN = re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<content>.*?)<\|im_end\|>\n", re.DOTALL)
_QWEN_IMAGE = re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>")
_LLAVA_TURN = re.compile(r"(?P<role>USER|ASSISTANT): (?P<content>.*?)(?=USER: |ASSISTANT: |\Z)", re.DOTALL)
_LLAVA_IMAGE = re.compile(r"(?:<image>)+\n")
_PATTERNS = {
    "llava": (_LLAVA_TURN, _LLAVA_IMAGE),
    "qwen2_5_vl": (_QWEN_TURN, _QWEN_IMAGE),
    "qwen3_vl": (_QWEN_TURN, _QWEN_IMAGE),
    **{name: (family.turn, family.image) for name, family in FURTHER_FAMILIES.items()},
}


def model_input(processor, family: str, sample: Sample):
    """Return the processor's tensors and the rendered text with its image placeholders expanded by hand."""
    rendered = processor.apply_chat_template(_as_messages(sample), tokenize=False)
    pictures = []
    for reference in sample.images:
        with Image.open(reference.path) as picture:
            pictures.append(picture.convert("RGB"))
    bos = processor.tokenizer.bos_token
    keywords = {"add_special_tokens": False} if bos and rendered.startswith(bos) else {}
    inputs = processor(text=[rendered], images=pictures, return_tensors="pt", **keywords)

    if family in FURTHER_FAMILIES:  # byte-level tokenizers: what the ids spell is the text, character for character
        return inputs, processor.tokenizer.decode(inputs["input_ids"][0], clean_up_tokenization_spaces=False)
    pieces = rendered.split(IMAGE_TOKEN[family])
    counts = _vision_token_counts(processor, family, inputs)
    assert len(pieces) == len(counts) + 1 == len(pictures) + 1
    expanded = pieces[0]
    for count, piece in zip(counts, pieces[1:], strict=True):
        expanded += IMAGE_TOKEN[family] * count + piece
    return inputs, expanded


def question_input(processor, family: str, sample: Sample):
    """Return the tensors of a question with its answer as suffix, and the text of the prefix with images expanded."""
    texts = {
        turn.role: " ".join(part.text for part in turn.parts if isinstance(part, TextPart)) for turn in sample.turns
    }
    assert texts.keys() <= {"user", "assistant"}
    assert len(texts) == len(sample.turns)
    pictures = [Image.open(reference.path).convert("RGB") for reference in sample.images]
    marker, bos = processor.image_token, processor.tokenizer.bos_token
    suffix = {"suffix": [texts["assistant"]]} if "assistant" in texts else {}
    text = marker * len(pictures) + texts["user"]
    inputs = processor(text=[text], images=pictures, return_tensors="pt", **suffix)
    return inputs, marker * processor.image_seq_length * len(pictures) + bos + texts["user"] + "\n"


def question_roles(tokenizer, family: str, expanded: str, inputs):
    """Return two bool [sequence]: tokens of the question, and those of the suffix, answer and end of sequence."""
    suffix = inputs["token_type_ids"][0].numpy() == 1
    prefix_ids = inputs["input_ids"][0].numpy()[~suffix]
    assert not (suffix[:-1] & ~suffix[1:]).any(), "the suffix stands at the end"
    start, end = FURTHER_FAMILIES[family].turn.search(expanded).span("content")
    encoded = tokenizer(expanded, return_offsets_mapping=True, add_special_tokens=False)
    assert encoded["input_ids"] == prefix_ids.tolist(), "the processor lays the prefix out in another way"
    user = np.zeros(suffix.size, dtype=bool)
    for at, (first, last) in enumerate(encoded["offset_mapping"]):
        user[at] = bool(expanded[max(first, start) : min(last, end)].strip())
    return user, suffix


def _as_messages(sample: Sample) -> list[dict]:
    return [
        {
            "role": turn.role,
            "content": [
                {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                for part in turn.parts
            ],
        }
        for turn in sample.turns
    ]


def image_token_id(config) -> int:
    return getattr(config, "image_token_id", None) or config.image_token_index


def _vision_token_counts(processor, family: str, inputs) -> list[int]:
    if family == "llava":
        images, _, height, width = inputs["pixel_values"].shape
        return [(height // processor.patch_size) * (width // processor.patch_size)] * images
    merged = processor.image_processor.merge_size**2
    return [int(grid.prod()) // merged for grid in inputs["image_grid_thw"]]


def token_roles(tokenizer, family: str, expanded: str, input_ids: NDArray[np.int64]):
    """Return two bool [sequence]: tokens of user texts, tokens of assistant texts."""
    bos = tokenizer.bos_token
    add_special_tokens = not (bos and expanded.startswith(bos))
    encoded = tokenizer(expanded, return_offsets_mapping=True, add_special_tokens=add_special_tokens)
    assert encoded["input_ids"] == input_ids.tolist(), "the processor expands placeholders in another way"

    role_of = np.full(len(expanded), "", dtype="U16")  # role whose text a non-space character belongs to
    for role, start, end in _text_spans(family, expanded):
        for at in range(start, end):
            role_of[at] = "" if expanded[at].isspace() else role
    user, assistant = (np.zeros(input_ids.size, dtype=bool) for _ in range(2))
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    for at, (token, (start, end)) in enumerate(zip(tokens, encoded["offset_mapping"], strict=True)):
        if token.strip("▁"):  # the space Llama puts in front claims the first character of the text
            user[at] = "user" in role_of[start:end]
            assistant[at] = "assistant" in role_of[start:end]
    return user, assistant


def _text_spans(family: str, expanded: str):
    """Yield (role, start, end) of every stretch of a turn's content between its images."""
    turn_pattern, image_pattern = _PATTERNS[family]
    for turn in turn_pattern.finditer(expanded):
        start, end = turn.span("content")
        roles = {"[inst]": "user", "": "assistant", "model": "assistant", "chatbot": "assistant"}
        role = roles.get(turn["role"].lower(), turn["role"].lower())
        for image in image_pattern.finditer(expanded, start, end):
            yield role, start, image.start()
            start = image.end()
        yield role, start, end

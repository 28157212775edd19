"""The method written plainly: the second road that every number of the package is compared with.

The whole model runs, all layers, eager attention, float32, one sample at a time; token roles come from cutting the
rendered conversation with a pattern written for each family's template; the subspace comes from a dense SVD. Nothing
here is fast, and nothing is shared with the package but its nouns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from families import FAMILIES as FURTHER_FAMILIES
from scalselect.records import TextPart

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import Sample

Agreement = Literal["equal", "flipped", "different"]

VECTOR_TOLERANCE = 1e-4  # of the largest value of the reference vector
MASS_TOLERANCE = 1e-5  # of the cumulative mass at the cut
TIE_TOLERANCE = 1e-6  # of two tokens' shares of attention

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


@dataclass(frozen=True, eq=False)
class ReferenceRow:
    """One sample's stage 1, and what it came from.

    `input_ids` int64 [sequence]; `vision_positions` int64 [vision] and `instruction_positions` int64 [instruction]
    ascending; `attention` (a_v) and `share` (p_v) float64 [vision]; `hidden` float64 [vision, hidden], the rows of
    hidden_states[layer + 1] at the vision tokens; `instruction_vector` float64 [hidden], their mean at the
    instruction tokens (NaN where there is none); `kept` int64 [kept], positions in the sequence, ascending; `vector`
    float64 [hidden]; `uniform`: no instruction token attends to a vision token.
    """

    input_ids: NDArray[np.int64]
    vision_positions: NDArray[np.int64]
    instruction_positions: NDArray[np.int64]
    attention: NDArray[np.float64]
    share: NDArray[np.float64]
    hidden: NDArray[np.float64]
    kept: NDArray[np.int64]
    vector: NDArray[np.float64]
    uniform: bool
    attention_mass: float
    instruction_vector: NDArray[np.float64] | None = None


def load_reference(folder: Path):
    """Return the whole model of a checkpoint, ready for `reference_row`, and its processor."""
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


@torch.no_grad()
def reference_row(
    model,
    processor,
    family: str,
    sample: Sample,
    *,
    instruction_tokens: str = "user",
    attention_mass: float = 0.9,
    layer: int = 0,
) -> ReferenceRow:
    """Stage 1 of the method for one sample with images, `family` naming the template's structure.

    `layer` must not be the last one, whose entry of hidden_states has passed the final norm.
    """
    assert layer < model.config.get_text_config().num_hidden_layers - 1
    assert model.config.get_text_config()._attn_implementation == "eager"
    one_question = family in FURTHER_FAMILIES and FURTHER_FAMILIES[family].one_question
    inputs, expanded = (_question_input if one_question else _model_input)(processor, family, sample)
    input_ids = inputs["input_ids"][0].numpy()
    vision = np.flatnonzero(input_ids == _image_token_id(model.config))
    if one_question:
        user, assistant = _question_roles(processor.tokenizer, family, expanded, inputs)
    else:
        user, assistant = _token_roles(processor.tokenizer, family, expanded, input_ids)
    if instruction_tokens == "user":
        instruction = np.flatnonzero(user)
    else:
        instruction = np.setdiff1d(np.flatnonzero(~assistant), vision)

    own_output = []
    decoder = model.get_decoder()
    decoder = decoder if hasattr(decoder, "layers") else decoder.model  # Llama 4 names its language model with head
    hook = decoder.layers[layer].register_forward_hook(lambda _module, _inputs, out: own_output.append(out))
    # Llama 4's processor hands pixels on in bfloat16.
    given = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    output = model(**given, output_attentions=True, output_hidden_states=True)
    hook.remove()
    own = own_output[0][0] if isinstance(own_output[0], tuple) else own_output[0]
    assert torch.equal(own, output.hidden_states[layer + 1]), "hidden_states hold more than the layer's own output"
    A = output.attentions[_softmax_layers_before(model, layer)][0].double().mean(dim=0).numpy()  # [sequence, sequence]
    H = output.hidden_states[layer + 1][0].double().numpy()  # [sequence, hidden]

    a = A[np.ix_(instruction, vision)].mean(axis=0) if instruction.size else np.zeros(vision.size)  # [vision]
    uniform = bool(a.sum() == 0)
    p = np.full(vision.size, 1 / vision.size) if uniform else a / a.sum()
    order = np.argsort(-p, kind="stable")
    exceeded = np.cumsum(p[order]) > attention_mass
    count = int(np.argmax(exceeded)) + 1 if exceeded.any() else vision.size
    kept = np.sort(order[:count])
    return ReferenceRow(
        input_ids=input_ids,
        vision_positions=vision,
        instruction_positions=instruction,
        attention=a,
        share=p,
        hidden=H[vision],
        kept=vision[kept],
        vector=H[vision[kept]].mean(axis=0),
        instruction_vector=H[instruction].mean(axis=0) if instruction.size else np.full(H.shape[1], np.nan),
        uniform=uniform,
        attention_mass=attention_mass,
    )


def _softmax_layers_before(model, layer: int) -> int:
    """Return the place of a layer among those that have attention probabilities: others add nothing to `attentions`."""
    layer_types = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"] * layer
    return sum(kind.endswith("attention") and not kind.startswith("linear") for kind in layer_types[:layer])


def agreement(kept, vector, reference: ReferenceRow) -> Agreement:
    """Compare another computation's row with the reference, as the method defines agreement.

    Parameters
    ----------
    kept
        Positions in the sequence, in any order.
    vector
        [hidden].
    """
    positions = set(np.asarray(kept).tolist())
    if not positions or len(positions) != len(kept) or not positions <= set(reference.vision_positions.tolist()):
        return "different"
    chosen = np.isin(reference.vision_positions, list(positions))  # [vision]
    expected = reference.hidden[chosen].mean(axis=0)
    if not np.abs(np.asarray(vector, dtype=np.float64) - expected).max() <= VECTOR_TOLERANCE * np.abs(expected).max():
        return "different"
    if positions == set(reference.kept.tolist()):
        return "equal"
    return "flipped" if _is_another_cut(chosen, reference) else "different"


def _is_another_cut(chosen: NDArray[np.bool_], reference: ReferenceRow) -> bool:
    """Whether rounding alone explains the chosen tokens: their number by the mass, the rest by ties."""
    ranked = -np.sort(-reference.share)
    mass_before = np.cumsum(ranked) - ranked  # a token is kept while the mass before it does not exceed the threshold
    fewest, most = sorted((int(chosen.sum()), reference.kept.size))
    at_threshold = np.abs(mass_before[fewest:most] - reference.attention_mass) <= MASS_TOLERANCE
    if chosen.all():
        return bool(at_threshold.all())
    tied = reference.share[~chosen].max() - reference.share[chosen].min() < TIE_TOLERANCE
    return bool(at_threshold.all() and tied)


def reference_scores(X: NDArray[np.floating], energy: float = 0.9) -> tuple[NDArray[np.float64], int]:
    """Stage 2: leverage scores float64 [rows] of X [rows, hidden] on its dominant subspace, and its dimension."""
    centred = X.astype(np.float64) - X.astype(np.float64).mean(axis=0)
    U, s, _ = np.linalg.svd(centred, full_matrices=False)
    reached = np.cumsum(s**2) / np.sum(s**2)
    k = int(np.argmax(reached >= energy)) + 1
    return np.sum(U[:, :k] ** 2, axis=1), k


def reference_choice(scores: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Stage 3: the n rows of highest score at 12 significant digits, ties in pool order; ascending."""
    written = [float(f"{score:.12g}") for score in scores]
    ranked = sorted(range(len(written)), key=lambda row: (-written[row], row))
    return np.array(sorted(ranked[:n]), dtype=np.int64)


def _model_input(processor, family: str, sample: Sample):
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


def _question_input(processor, family: str, sample: Sample):
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


def _question_roles(tokenizer, family: str, expanded: str, inputs):
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


def _image_token_id(config) -> int:
    return getattr(config, "image_token_id", None) or config.image_token_index


def _vision_token_counts(processor, family: str, inputs) -> list[int]:
    if family == "llava":
        images, _, height, width = inputs["pixel_values"].shape
        return [(height // processor.patch_size) * (width // processor.patch_size)] * images
    merged = processor.image_processor.merge_size**2
    return [int(grid.prod()) // merged for grid in inputs["image_grid_thw"]]


def _token_roles(tokenizer, family: str, expanded: str, input_ids: NDArray[np.int64]):
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

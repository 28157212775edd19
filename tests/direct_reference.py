"""The method written plainly: the second road that every number of the package is compared with.

The whole model runs, all layers, eager attention, float32, one sample at a time; token roles come from cutting the
rendered conversation with a pattern written for each family's template; the subspace comes from a dense SVD. Nothing
here is fast, and nothing is shared with the package but its nouns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from families import FAMILIES as FURTHER_FAMILIES
from reference_tokens import image_token_id, model_input, question_input, question_roles, token_roles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import Sample

Agreement = Literal["equal", "flipped", "different"]

VECTOR_TOLERANCE = 1e-4  # of the largest value of the reference vector
MASS_TOLERANCE = 1e-5  # of the cumulative mass at the cut
TIE_TOLERANCE = 1e-6  # of two tokens' shares of attention


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


@dataclass(frozen=True, eq=False)
class WholePass:
    """What a pass of one sample through the whole model gave, whatever counts as its instruction.

    `input_ids` int64 [sequence]; `vision` int64 [vision], positions; `user` and `assistant` bool [sequence], the tokens
    of their texts; `attention` float64 [sequence, sequence], the mean over the heads of one layer; `hidden` float64
    [sequence, hidden], that layer's output.
    """

    input_ids: NDArray[np.int64]
    vision: NDArray[np.int64]
    user: NDArray[np.bool_]
    assistant: NDArray[np.bool_]
    attention: NDArray[np.float64]
    hidden: NDArray[np.float64]


@torch.no_grad()
def whole_pass(model, processor, family: str, sample: Sample, layer: int = 0) -> WholePass:
    """Run one sample with images through the whole model, `family` naming the template's structure.

    `layer` must not be the last one, whose entry of hidden_states has passed the final norm.
    """
    assert layer < model.config.get_text_config().num_hidden_layers - 1
    assert model.config.get_text_config()._attn_implementation == "eager"
    one_question = family in FURTHER_FAMILIES and FURTHER_FAMILIES[family].one_question
    inputs, expanded = (question_input if one_question else model_input)(processor, family, sample)
    input_ids = inputs["input_ids"][0].numpy()
    if one_question:
        user, assistant = question_roles(processor.tokenizer, family, expanded, inputs)
    else:
        user, assistant = token_roles(processor.tokenizer, family, expanded, input_ids)

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
    return WholePass(
        input_ids=input_ids,
        vision=np.flatnonzero(input_ids == image_token_id(model.config)),
        user=user,
        assistant=assistant,
        attention=output.attentions[_softmax_layers_before(model, layer)][0].double().mean(dim=0).numpy(),
        hidden=output.hidden_states[layer + 1][0].double().numpy(),
    )


def reference_row(model, processor, family: str, sample: Sample, *, layer: int = 0, **options) -> ReferenceRow:
    """Stage 1 of the method for one sample: `whole_pass`, then `row_of` with the other options."""
    return row_of(whole_pass(model, processor, family, sample, layer), **options)


def row_of(passed: WholePass, *, instruction_tokens: str = "user", attention_mass: float = 0.9) -> ReferenceRow:
    """Choose the vision tokens that the instruction attends to, and pool what the layer made of them."""
    vision, A, H = passed.vision, passed.attention, passed.hidden
    if instruction_tokens == "user":
        instruction = np.flatnonzero(passed.user)
    else:
        instruction = np.setdiff1d(np.flatnonzero(~passed.assistant), vision)
    a = A[np.ix_(instruction, vision)].mean(axis=0) if instruction.size else np.zeros(vision.size)  # [vision]
    uniform = bool(a.sum() == 0)
    p = np.full(vision.size, 1 / vision.size) if uniform else a / a.sum()
    order = np.argsort(-p, kind="stable")
    exceeded = np.cumsum(p[order]) > attention_mass
    count = int(np.argmax(exceeded)) + 1 if exceeded.any() else vision.size
    kept = np.sort(order[:count])
    return ReferenceRow(
        input_ids=passed.input_ids,
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

"""The second road is right by itself: roles, attention, layer 0's output, agreement, scores and choice."""

from __future__ import annotations

import dataclasses
import unicodedata

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from conversations import as_samples, sample_conversations
from direct_reference import (
    ReferenceRow,
    agreement,
    load_reference,
    reference_choice,
    reference_row,
    reference_scores,
)
from reference_tokens import model_input
from scalselect.records import TextPart
from tiny_vlms import FAMILIES, build_checkpoint, make_pictures

CONVERSATIONS = sample_conversations()
NAMES = [conversation.name for conversation in CONVERSATIONS]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), 5, seed=1)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(family, tmp_path_factory):
    return load_reference(build_checkpoint(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="module")
def samples(pictures):
    return as_samples(CONVERSATIONS, pictures)


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)), ids=NAMES)
def test_instruction_tokens_spell_the_user_texts(family, checkpoint, samples, number):
    model, processor = checkpoint
    row = reference_row(model, processor, family, samples[number])
    decoded = processor.tokenizer.decode(row.input_ids[row.instruction_positions])
    assert _squeezed(decoded) == _squeezed(_texts(samples[number], "user"))


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)), ids=NAMES)
def test_non_assistant_tokens_are_all_but_vision_and_answers(family, checkpoint, samples, number):
    model, processor = checkpoint
    row = reference_row(model, processor, family, samples[number], instruction_tokens="non-assistant")
    chosen = np.union1d(row.instruction_positions, row.vision_positions)
    assert chosen.size == row.instruction_positions.size + row.vision_positions.size
    answers = np.setdiff1d(np.arange(row.input_ids.size), chosen)
    assert _squeezed(processor.tokenizer.decode(row.input_ids[answers])) == _squeezed(
        _texts(samples[number], "assistant")
    )


def test_system_text_is_instruction_only_for_non_assistant(family, checkpoint, samples):
    model, processor = checkpoint
    sample = samples[NAMES.index("system turn")]
    for instruction_tokens, expected in (("user", False), ("non-assistant", True)):
        row = reference_row(model, processor, family, sample, instruction_tokens=instruction_tokens)
        decoded = processor.tokenizer.decode(row.input_ids[row.instruction_positions])
        assert ("name colours only" in decoded) is expected


def test_uniform_where_no_instruction_sees_a_vision_token(family, checkpoint, samples):
    model, processor = checkpoint
    uniform = {
        conversation.name
        for conversation, sample in zip(CONVERSATIONS, samples, strict=True)
        if reference_row(model, processor, family, sample).uniform
    }
    # LLaVA's template moves images in front of the turn's text, so there the question does see its image.
    assert uniform == {"no user text"} | (set() if family == "llava" else {"question before its image"})


def test_first_layer_is_what_a_hook_on_layer_0_sees(family, checkpoint, samples):
    model, processor = checkpoint
    layer = model.model.language_model.layers[0]
    states, attentions = [], []
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, output: states.append(output)),
        layer.self_attn.register_forward_hook(lambda _layer, _inputs, output: attentions.append(output[1])),
    ]
    row = reference_row(model, processor, family, samples[2])
    for handle in handles:
        handle.remove()
    assert len(states) == len(attentions) == 1
    assert np.array_equal(row.hidden, states[0][0, row.vision_positions].double().numpy())
    attention = attentions[0][0].double()  # [heads, sequence, sequence]
    assert np.allclose(attention.sum(dim=-1), 1, atol=1e-5)
    columns = attention[:, :, row.vision_positions][:, row.instruction_positions]
    assert np.allclose(row.attention, columns.mean(dim=(0, 1)), rtol=1e-12)
    assert model.config.get_text_config().num_hidden_layers == 3


@pytest.mark.parametrize("attention_mass", [0.3, 0.9])
def test_kept_tokens_are_the_shortest_prefix_above_the_mass(family, checkpoint, samples, attention_mass):
    model, processor = checkpoint
    for sample in samples:
        row = reference_row(model, processor, family, sample, attention_mass=attention_mass)
        chosen = np.isin(row.vision_positions, row.kept)
        share = row.share[chosen]
        assert share.sum() > attention_mass >= share.sum() - share.min() - 1e-12
        assert share.min() >= row.share[~chosen].max(initial=0)
        assert np.allclose(row.vector, row.hidden[chosen].sum(axis=0) / row.kept.size)


def test_qwen3_vl_adds_deepstack_features_after_layer_0(tmp_path, samples):
    model, processor = load_reference(build_checkpoint("qwen3_vl", tmp_path))
    entering = []
    model.model.language_model.layers[1].register_forward_pre_hook(lambda _layer, inputs: entering.append(inputs[0]))
    inputs, _ = model_input(processor, "qwen3_vl", samples[0])
    with torch.no_grad():
        own = model(**inputs, output_hidden_states=True).hidden_states[1]
    changed = (entering[0] - own).abs().amax(dim=-1)[0] > 0.01
    assert torch.equal(changed, inputs["input_ids"][0] == model.config.image_token_id)


def test_attention_is_far_from_uniform_and_the_pool_has_several_directions(family, checkpoint, tmp_path):
    model, processor = checkpoint
    talks = [CONVERSATIONS[number] for number in (0, 1, 4, 6) for _ in range(8)]
    samples = as_samples(talks, make_pictures(tmp_path, 32, seed=2))
    rows = [reference_row(model, processor, family, sample) for sample in samples]
    spread = [np.exp(-np.sum(row.share * np.log(row.share))) / row.share.size for row in rows]
    assert np.mean(spread) < 0.8  # e to the entropy, as a share of the count: 1 would be uniform
    assert np.mean([row.kept.size / row.share.size for row in rows]) < 0.8
    scores, k = reference_scores(np.stack([row.vector for row in rows]))
    assert 2 < k < 32
    assert scores.max() > 1.2 * scores.min()


@pytest.mark.parametrize(("size", "promised"), [("small", range(4, 65)), ("large", range(256, 1025))])
def test_checkpoints_are_whole_and_of_the_promised_size(family, samples, tmp_path, size, promised):
    folders = [build_checkpoint(family, tmp_path / name, size=size, seed=5) for name in ("first", "second")]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    model, loading = AutoModelForImageTextToText.from_pretrained(folders[0], output_loading_info=True)
    assert not any(loading.values()), loading
    inputs, _ = model_input(AutoProcessor.from_pretrained(folders[0]), family, samples[0])
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) in promised


def test_agreement_accepts_the_reference_itself(family, checkpoint, samples):
    model, processor = checkpoint
    row = reference_row(model, processor, family, samples[0])
    assert agreement(row.kept[::-1], row.vector.astype(np.float32), row) == "equal"
    off = row.vector.copy()
    off[0] += 2e-4 * np.abs(row.vector).max()
    assert agreement(row.kept, off, row) == "different"
    assert agreement(row.kept[:-1], row.hidden[:1].mean(axis=0), row) == "different"


def test_agreement_knows_a_token_at_the_threshold():
    row = _constructed([0.5, 0.4 + 2e-6, 0.06, 0.04 - 2e-6], kept=[0, 1])
    assert agreement([10, 11, 12], row.hidden[:3].mean(axis=0), row) == "flipped"
    assert agreement([10, 11, 12], row.vector, row) == "different"  # the vector of another kept set
    assert agreement([10, 11, 12, 13], row.hidden.mean(axis=0), row) == "different"
    assert agreement([10], row.hidden[0], row) == "different"
    row = _constructed([0.5, 0.4 - 2e-6, 0.06, 0.04 + 2e-6], kept=[0, 1, 2])
    assert agreement([10, 11], row.hidden[:2].mean(axis=0), row) == "flipped"


def test_agreement_knows_ties():
    row = _constructed([0.5, 0.2, 0.15 + 4e-7, 0.15], kept=[0, 1, 2], attention_mass=0.8)
    assert agreement([10, 11, 13], row.hidden[[0, 1, 3]].mean(axis=0), row) == "flipped"
    assert agreement([10, 12, 13], row.hidden[[0, 2, 3]].mean(axis=0), row) == "different"
    far = dataclasses.replace(row, share=np.array([0.5, 0.2, 0.15 + 4e-6, 0.15 - 4e-6]))
    assert agreement([10, 11, 13], row.hidden[[0, 1, 3]].mean(axis=0), far) == "different"


def test_agreement_refuses_what_is_no_kept_set():
    row = _constructed([0.6, 0.4], kept=[0, 1])
    assert agreement([], row.vector, row) == "different"
    assert agreement([10, 10], row.hidden[0], row) == "different"
    assert agreement([9, 10, 11], row.vector, row) == "different"
    assert agreement([10, 11], np.full(3, np.nan), row) == "different"


def test_scores_sum_to_the_dimension_and_choice_breaks_ties_in_pool_order():
    generator = np.random.default_rng(3)
    X = generator.normal(size=(40, 6)) * [10, 5, 2, 1, 0.1, 0.1] + 1000
    scores, k = reference_scores(X.astype(np.float64))
    assert scores.sum() == pytest.approx(k)
    energies = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    assert energies[: k - 1].sum() / energies.sum() < 0.9 <= energies[:k].sum() / energies.sum()
    assert reference_choice(np.array([0.1, 0.3, 0.3 + 1e-14, 0.2, 0.3]), 2).tolist() == [1, 2]


def _constructed(share: list[float], kept: list[int], attention_mass: float = 0.9) -> ReferenceRow:
    """Return a row whose vision tokens stand at positions 10, 11, ... and whose hidden rows are all different."""
    hidden = np.random.default_rng(0).normal(size=(len(share), 3))
    positions = np.arange(10, 10 + len(share))
    return ReferenceRow(
        input_ids=np.arange(20),
        vision_positions=positions,
        instruction_positions=np.arange(15, 20),
        attention=np.array(share),
        share=np.array(share),
        hidden=hidden,
        kept=positions[kept],
        vector=hidden[kept].mean(axis=0),
        uniform=False,
        attention_mass=attention_mass,
    )


def _texts(sample, role: str) -> str:
    return "".join(
        part.text for turn in sample.turns if turn.role == role for part in turn.parts if isinstance(part, TextPart)
    )


def _squeezed(text: str) -> str:
    """Drop white space; Qwen's tokenizer composes characters, so compare them composed."""
    return "".join(unicodedata.normalize("NFC", text).split())

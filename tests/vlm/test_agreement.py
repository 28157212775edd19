"""Rows agree with the plainly written method: full model, eager attention, all hidden states."""

import numpy as np
import pytest
from PIL import Image

from conversations import as_samples, sample_conversations
from direct_reference import agreement, load_reference, reference_choice, reference_row, reference_scores
from scalselect.selection.candidates import Candidates
from scalselect.selection.selecting import select_rows
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from
from scalselect.vlm.representation import Pooling, represent_samples

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl"]
CASES = [(family, "small") for family in FAMILIES] + [("llava", "large"), ("qwen2_5_vl", "large")]


@pytest.fixture(scope="module")
def references(checkpoints, pictures):
    """Return a function (family, size, definition) -> samples and their reference rows."""
    models, cache = {}, {}
    samples = as_samples(sample_conversations(), pictures)

    def rows(family, size, definition):
        if (family, size) not in models:
            models[family, size] = load_reference(checkpoints(family, size))
        if (family, size, definition) not in cache:
            model, processor = models[family, size]
            cache[family, size, definition] = [
                reference_row(model, processor, family, sample, instruction_tokens=definition) for sample in samples
            ]
        return samples, cache[family, size, definition]

    return rows


def prepare(checkpoint, samples):
    return [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]


def represent(checkpoint, prepared, batch, side="right"):
    results = []
    for start in range(0, len(prepared), batch):
        some = prepared[start : start + batch]
        found, splits = represent_samples(checkpoint, some, Pooling(attention_mass=0.9), padding_side=side)
        assert splits == 0
        results += found
    return results


@pytest.mark.parametrize(("family", "size"), CASES)
@pytest.mark.parametrize("definition", ["user", "non-assistant"])
@pytest.mark.parametrize(("batch", "side"), [(1, "right"), (3, "left"), (3, "right")])
def test_rows_agree(loaded, references, family, size, definition, batch, side):
    samples, expected = references(family, size, definition)
    checkpoint = loaded(family, size, instruction_tokens=definition)
    prepared = prepare(checkpoint, samples)
    found = represent(checkpoint, prepared, batch, side)
    kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
    assert "different" not in kinds, list(zip([sample.identity.row for sample in samples], kinds, strict=True))
    assert kinds.count("flipped") <= 0.1 * len(kinds)
    assert [row.uniform for row in found] == [reference.uniform for reference in expected]
    for one, reference in zip(prepared, expected, strict=True):
        assert one.instruction.tolist() == reference.instruction_positions.tolist()
        assert one.vision.tolist() == reference.vision_positions.tolist()


def test_the_cut_is_exercised(references):
    for family, size in CASES:
        _, rows = references(family, size, "user")
        shares = [len(row.kept) / len(row.vision_positions) for row in rows]
        assert min(shares) < 0.8, (family, size)
    _, rows = references("llava", "large", "user")
    assert min(len(row.vision_positions) for row in rows) >= 256


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_choice_equal_those_of_a_plain_svd(loaded, references, family):
    samples, expected = references(family, "small", "user")
    checkpoint = loaded(family)
    X = np.stack([row.vector for row in represent(checkpoint, prepare(checkpoint, samples), 3)])
    sums = ScatterSums(shift_from(X))
    sums.add(X)
    subspace = dominant_subspace(sums, energy=0.9)
    scores = leverage_scores(X, subspace)
    direct, k = reference_scores(X)
    assert subspace.rank == k
    np.testing.assert_allclose(scores, direct, rtol=0, atol=1e-10)
    candidates = Candidates(np.arange(len(X)), as_written(scores), np.zeros(len(X)))
    for n in range(1, len(X) + 1):
        chosen = select_rows(candidates, n, strategy="top-leverage").rows
        assert chosen.tolist() == reference_choice(direct, n).tolist()
    # The whole road: vectors of the full model, scored by the plain SVD, choose the same rows.
    whole, _ = reference_scores(np.stack([row.vector for row in expected]))
    chosen = select_rows(candidates, 4, strategy="top-leverage").rows
    assert chosen.tolist() == reference_choice(whole, 4).tolist()


def test_the_comparison_can_fail(loaded, references):
    samples, expected = references("llava", "small", "user")
    checkpoint = loaded("llava")
    prepared = prepare(checkpoint, samples)
    found, _ = represent_samples(checkpoint, prepared[:3], Pooling(attention_mass=0.5))
    kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected[:3], strict=True)]
    assert "different" in kinds

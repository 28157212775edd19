"""The same rows are chosen whatever the batch, the padding, and what samples share: every tested family."""

import dataclasses

import numpy as np
import pytest
from test_shared_prefixes import prepare, represent, samples_of

from direct_reference import reference_choice, reference_scores
from families import FAMILIES as FURTHER
from scalselect.vlm.representation import Pooling, represent_samples

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl", *FURTHER]


def in_batches(checkpoint, prepared, rows, side):
    found = []
    for start in range(0, len(prepared), rows):
        found += represent_samples(checkpoint, prepared[start : start + rows], Pooling(), padding_side=side)[0]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_choice_does_not_depend_on_the_batch(rehearsed, pictures, family):
    known = FURTHER.get(family)
    layer = known.layer if known else 0
    samples = samples_of(pictures[:3], one_question=bool(known and known.one_question))  # one of each shape
    checkpoint = rehearsed(family, layer=layer)
    prepared = prepare(checkpoint, samples)
    alone = in_batches(checkpoint, prepared, 1, "right")
    ways = {
        "left": in_batches(checkpoint, prepared, 4, "left"),
        "right": in_batches(checkpoint, prepared[::-1], 5, "right")[::-1],
        "shared": represent(checkpoint, prepared, share=checkpoint.shares_prefixes)[0],
    }
    _, k = reference_scores(np.stack([row.vector for row in alone]))
    for way, rows in ways.items():
        same = [one.kept.tolist() == other.kept.tolist() for one, other in zip(alone, rows, strict=True)]
        # Where a flipped cut explains a difference, the vector of the other cut is what is compared.
        vectors = np.stack(
            [(one if kept else other).vector for kept, one, other in zip(same, alone, rows, strict=True)]
        )
        expected, _ = reference_scores(vectors)
        found, rank = reference_scores(np.stack([row.vector for row in rows]))
        assert rank == k or not all(same), way
        assert sum(same) >= 0.9 * len(same), way
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        for n in (3, 8, 16):
            chosen, other = reference_choice(expected, n), reference_choice(found, n)
            # A tie: rows whose scores differ by no more than rounding may change places at the cut.
            cut = np.sort(expected)[-n]
            odd = np.setxor1d(chosen, other)
            assert np.abs(expected[odd] - cut).max(initial=0) < 1e-5, (way, n)


def test_the_comparison_can_fail(rehearsed, pictures):
    checkpoint = rehearsed("llava")
    prepared = prepare(checkpoint, samples_of(pictures))
    alone = in_batches(checkpoint, prepared, 1, "right")
    wrong = [dataclasses.replace(one, instruction=one.instruction[:1]) for one in prepared]
    other = in_batches(checkpoint, wrong, 4, "right")
    same = [one.kept.tolist() == two.kept.tolist() for one, two in zip(alone, other, strict=True)]
    assert sum(same) < 0.9 * len(same)

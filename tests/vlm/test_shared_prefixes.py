"""Samples that begin alike are run from where they part, and their rows agree with those of the full model."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from conversations import as_samples, sample_conversations, single_questions
from direct_reference import agreement, load_reference, reference_row
from families import FAMILIES as FURTHER
from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.representation import Pooling
from scalselect.vlm.shared_prefixes import leaders_of
from scalselect.vlm.window import WindowPass

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl", *(name for name, family in FURTHER.items() if family.layer == 0)]
NEVER_SHARED = {
    "ernie4_5_vl_moe",  # its decoder is told the kind of every token
    "granite4_vision",  # image features enter the decoder by another way
    "llama4",  # a chunk may end inside
    "molmo2",  # image tokens see the marker behind them
    "ovis2",  # tokens behind an image have embeddings of the tower's
    "paligemma",  # the beginning sees the question
}
QUESTIONS = [
    "What is in the picture?",
    "Is there a red circle to the left of the square, or is it the other way round? Look twice.",
    "No?",
    "How many shapes?",
]


def samples_of(pictures, questions=QUESTIONS, before=(), *, one_question=False):
    """Every question about every picture, and conversations of all kinds about the same pictures."""
    again = () if one_question else (Turn("user", (TextPart("Are you sure?"),)),)
    asked = [
        Sample(
            identity=RowIdentity(row, "test", None, "absent"),
            turns=(
                Turn("user", (*before, ImagePart(0), TextPart(question))),
                Turn("assistant", (TextPart("A circle."),)),
                *again,
            ),
            images=(ImageReference(str(picture), str(picture)),),
            images_in_front=False,
            text_sha256="",
        )
        for row, (picture, question) in enumerate((p, q) for p in pictures for q in questions)
    ]
    return asked + as_samples(single_questions() if one_question else sample_conversations(), pictures)


def prepare(checkpoint, samples):
    return [
        checkpoint.preparer.prepare(
            sample,
            [Image.open(image.path).convert("RGB") for image in sample.images],
            [image.path for image in sample.images],
        )
        for sample in samples
    ]


def represent(checkpoint, prepared, *, share, pooling=None, rows=4):
    work = WindowPass(
        checkpoint=checkpoint,
        pooling=pooling or Pooling(),
        max_rows=rows,
        max_tokens=10**6,
        cache=ImageFeatureCache() if share else None,
        share_prefixes=share,
    )
    found = dict(work.represent(prepared))
    assert sorted(found) == list(range(len(prepared)))
    assert work.split_batches == 0
    return [found[place] for place in range(len(prepared))], work


@pytest.mark.parametrize("definition", ["user", "non-assistant"])  # one after the other, of the same passes
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_agree_with_the_full_model(reference, rehearsed, pictures, family, definition):
    samples = samples_of(pictures[:2], one_question=family in FURTHER and FURTHER[family].one_question)
    checkpoint = rehearsed(family, instruction_tokens=definition)
    assert checkpoint.shares_prefixes == (family not in NEVER_SHARED)
    if not checkpoint.shares_prefixes:
        return
    prepared = prepare(checkpoint, samples)
    found, work = represent(checkpoint, prepared, share=True)
    assert work.prefixes_reused == len(leaders_of(prepared)) >= 6
    kinds = [
        agreement(row.kept, row.vector, reference(family, sample, instruction_tokens=definition))
        for row, sample in zip(found, samples, strict=True)
    ]
    assert "different" not in kinds
    assert kinds.count("flipped") <= 0.1 * len(kinds)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
@pytest.mark.parametrize(
    "pooling",
    [Pooling(instruction_vector=True), Pooling(attention_mass=None), Pooling(attention_mass=0.5)],
    ids=["both vectors", "all tokens", "half the mass"],
)
def test_shared_and_unshared_rows_agree(loaded, pictures, family, pooling):
    before = [TextPart("Look:")]  # instruction inside the prefix
    checkpoint = loaded(family)
    prepared = prepare(checkpoint, samples_of(pictures[:2]) + samples_of(pictures[:2], before=before))
    shared, work = represent(checkpoint, prepared, share=True, pooling=pooling)
    plain, none = represent(checkpoint, prepared, share=False, pooling=pooling)
    assert work.prefixes_reused >= 12
    assert none.prefixes_reused == 0
    for one, other in zip(shared, plain, strict=True):
        assert one.kept.tolist() == other.kept.tolist()
        assert one.uniform == other.uniform
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5 * np.abs(other.vector).max())
        if pooling.instruction_vector:
            np.testing.assert_allclose(one.instruction_vector, other.instruction_vector, rtol=1e-4, atol=1e-5)


def test_only_tokens_behind_the_images_are_run_again(loaded, pictures):
    checkpoint = loaded("llava")
    prepared = prepare(checkpoint, samples_of(pictures[:2])[: 2 * len(QUESTIONS)])
    lengths = []
    hook = checkpoint.first_layer.model.get_decoder().register_forward_pre_hook(
        lambda _module, _arguments, named: lengths.append(named["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    try:
        represent(checkpoint, prepared, share=True, rows=8)
    finally:
        hook.remove()
    longest = max(sample.length for sample in prepared)
    assert lengths[0] == (2, longest)
    assert [rows for rows, _ in lengths] == [2, 6]
    assert lengths[1][1] <= longest - 36  # the vision tokens of a picture


def test_samples_follow_only_what_begins_like_them(loaded, pictures):
    checkpoint = loaded("llava")
    prepared = prepare(checkpoint, samples_of(pictures[:2])[: 2 * len(QUESTIONS)])
    leaders = leaders_of(prepared)
    longest = max(range(4), key=lambda place: prepared[place].length)
    assert {place: leader for place, leader in leaders.items() if place < 4} == {
        place: longest for place in range(4) if place != longest
    }
    assert all(leader >= 4 for place, leader in leaders.items() if place >= 4)
    assert leaders_of([dataclasses.replace(one, images=()) for one in prepared]) == {}
    turned = dataclasses.replace(prepared[0], images=("another picture",))
    assert leaders_of([prepared[1], turned]) == {}
    marked = dataclasses.replace(prepared[0], instruction=prepared[0].vision[:1])
    assert leaders_of([prepared[1], marked]) == {}


def test_a_wrong_prefix_would_be_noticed(loaded, checkpoints, pictures):
    """The comparison with the full model can fail: two pictures under one key give wrong rows."""
    model, processor = load_reference(checkpoints("llava"))
    samples = samples_of(pictures[:2])[: 2 * len(QUESTIONS)]
    checkpoint = loaded("llava")
    prepared = [dataclasses.replace(one, images=("same",)) for one in prepare(checkpoint, samples)]
    found, _ = represent(checkpoint, prepared, share=True)
    kinds = [
        agreement(row.kept, row.vector, reference_row(model, processor, "llava", sample))
        for row, sample in zip(found, samples, strict=True)
    ]
    assert "different" in kinds

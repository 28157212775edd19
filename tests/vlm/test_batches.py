import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conversations import as_samples
from scalselect.errors import SampleError, ShardError
from scalselect.records import ImagePart, Reason, TextPart, Turn
from scalselect.vlm import representation
from scalselect.vlm.batches import plan_batches
from scalselect.vlm.device_memory import is_out_of_memory
from scalselect.vlm.representation import Pooling, represent_samples

IMAGE = ImagePart(0)
PICTURE = Image.effect_noise((56, 56), 90).convert("RGB")


class Talk:
    images = 1

    def __init__(self, *turns):
        self.turns = tuple(
            Turn(role, tuple(part if isinstance(part, ImagePart) else TextPart(part) for part in parts))
            for role, *parts in turns
        )


LONG_ANSWER = Talk(["user", IMAGE, "What?"], ["assistant", "many words " * 30])
LONG_QUESTION = Talk(["user", IMAGE, "why so " * 30], ["assistant", "No"])
QUESTION_FIRST = Talk(["user", "many words " * 30, IMAGE], ["assistant", "No"])


def prepare(loaded, pictures, talk, family="qwen2_5_vl", picture=PICTURE, **options):
    return loaded(family, **options).preparer.prepare(as_samples([talk], pictures)[0], [picture])


@given(st.lists(st.integers(1, 300), max_size=40), st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 900))
def test_batches_cover_every_sample_once_within_the_budget(lengths, max_rows, max_tokens):
    batches = plan_batches(lengths, max_rows=max_rows, max_tokens=max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
        assert max_rows is None or len(batch) <= max_rows
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(flat, reverse=True)


def test_no_batch_of_nothing():
    assert plan_batches([], max_rows=None, max_tokens=10) == []


def test_what_follows_the_last_instruction_is_cut_but_counted(loaded, pictures):
    sample = prepare(loaded, pictures, LONG_ANSWER)
    assert sample.length == int(sample.instruction.max()) + 1
    assert sample.tokens > sample.length + 50
    assert not sample.truncated


def test_length_limit_drops_tokens_from_the_end(loaded, pictures):
    whole = prepare(loaded, pictures, LONG_QUESTION)
    limit = int(whole.vision.max()) + 6
    sample = prepare(loaded, pictures, LONG_QUESTION, max_length=limit)
    assert sample.truncated
    assert sample.tokens == limit
    assert sample.instruction.tolist() == [i for i in whole.instruction.tolist() if i < limit]
    assert not prepare(loaded, pictures, LONG_QUESTION, max_length=whole.tokens).truncated


@pytest.mark.parametrize(
    ("talk", "words"), [(QUESTION_FIRST, "an image token"), (LONG_QUESTION, "the whole instruction")]
)
def test_a_limit_that_would_cut_image_or_instruction_skips_the_row(loaded, pictures, talk, words):
    whole = prepare(loaded, pictures, talk)
    limit = int(whole.vision.max()) + (0 if talk is QUESTION_FIRST else 2)
    with pytest.raises(SampleError, match=words) as caught:
        prepare(loaded, pictures, talk, max_length=limit)
    assert caught.value.reason == Reason.TOO_LONG


def test_a_picture_that_the_processor_refuses_is_a_row_with_a_reason(loaded, pictures):
    with pytest.raises(SampleError, match="aspect ratio") as caught:
        prepare(loaded, pictures, LONG_ANSWER, picture=Image.new("RGB", (1, 900)))
    assert caught.value.reason == Reason.IMAGE_REFUSED


def test_pixel_limits_reach_the_processor(loaded, pictures):
    big = Image.effect_noise((448, 448), 90).convert("RGB")
    least = prepare(loaded, pictures, LONG_ANSWER, picture=big, image_max_pixels=28 * 28 * 16, image_min_pixels=28 * 28)
    most = prepare(loaded, pictures, LONG_ANSWER, picture=big, image_max_pixels=28 * 28 * 256, image_min_pixels=28 * 28)
    assert len(least.vision) == 16
    assert len(most.vision) == 256
    # The checkpoint's own upper limit is 64 vision tokens; a lower limit alone leaves it.
    assert len(prepare(loaded, pictures, LONG_ANSWER, picture=big, image_min_pixels=28 * 28).vision) <= 64


def test_samples_that_cannot_share_a_batch_run_one_by_one(loaded, pictures, monkeypatch):
    checkpoint = loaded("qwen2_5_vl")
    samples = [prepare(loaded, pictures, talk) for talk in (LONG_ANSWER, LONG_QUESTION, QUESTION_FIRST)]
    assert representation.can_be_stacked(samples)
    expected = [represent_samples(checkpoint, [sample], Pooling())[0][0] for sample in samples]
    samples[1].inputs["something"] = torch.zeros(1, 3)  # an input that the others lack
    assert not representation.can_be_stacked(samples)
    monkeypatch.setattr(representation, "can_be_stacked", lambda some: len(some) == 1)
    del samples[1].inputs["something"]
    found, splits = represent_samples(checkpoint, samples, Pooling())
    assert splits == 0
    assert all(np.array_equal(one.vector, other.vector) for one, other in zip(found, expected, strict=True))


def test_out_of_memory_halves_the_batch_until_it_fits(loaded, pictures, monkeypatch):
    checkpoint = loaded("qwen2_5_vl")
    samples = [prepare(loaded, pictures, talk) for talk in (LONG_ANSWER, LONG_QUESTION, QUESTION_FIRST)]
    expected, _ = represent_samples(checkpoint, samples, Pooling(attention_mass=0.9))
    original = representation.launch_batch

    def tight(checkpoint, samples, *options, **more):
        if len(samples) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(checkpoint, samples, *options, **more)

    monkeypatch.setattr(representation, "launch_batch", tight)
    found, splits = represent_samples(checkpoint, samples, Pooling(attention_mass=0.9))
    assert splits == 2
    for one, other in zip(found, expected, strict=True):
        assert one.kept.tolist() == other.kept.tolist()


def test_out_of_memory_with_one_sample_fails_with_advice(loaded, pictures, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(representation, "launch_batch", full)
    samples = [prepare(loaded, pictures, LONG_ANSWER)] * 2
    with pytest.raises(ShardError, match="--image-max-pixels"):
        represent_samples(loaded("qwen2_5_vl"), samples, Pooling(attention_mass=0.9))


def test_other_errors_are_not_taken_for_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN within RLIMIT_AS


def test_nan_in_the_model_is_noticed(loaded, pictures, monkeypatch):
    checkpoint = loaded("qwen2_5_vl")
    sample = prepare(loaded, pictures, LONG_ANSWER)
    sample.inputs["pixel_values"][:] = torch.nan
    found, _ = represent_samples(checkpoint, [sample], Pooling(attention_mass=0.9))
    assert not found[0].finite

"""Each image goes through the tower once, and rows agree with those of the full model."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from conversations import as_samples, sample_conversations
from direct_reference import agreement, load_reference, reference_row
from scalselect import shard_work
from scalselect.representation_store import RepresentationStore
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.representation import Pooling, represent_samples
from small_pools import command, write_pool

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl"]


def prepare(checkpoint, samples, keys=True):
    return [
        checkpoint.preparer.prepare(
            sample,
            [Image.open(image.path).convert("RGB") for image in sample.images],
            [image.path for image in sample.images] if keys else (),
        )
        for sample in samples
    ]


def represent(checkpoint, prepared, cache, batch=4):
    found = []
    for start in range(0, len(prepared), batch):
        found += represent_samples(checkpoint, prepared[start : start + batch], Pooling(), cache=cache)[0]
    return found


@pytest.fixture(scope="module")
def samples(pictures):
    return as_samples(sample_conversations(), pictures[:3])


@pytest.mark.parametrize("family", [*FAMILIES, "deepseek_vl"])  # which hands its images on as one tensor
@pytest.mark.parametrize("options", [{}, {"layer": 1}])
def test_rows_agree_and_each_image_is_computed_once(loaded, checkpoints, samples, family, options):
    model, processor = load_reference(checkpoints(family))
    checkpoint, cache = loaded(family, **options), ImageFeatureCache()
    prepared = prepare(checkpoint, samples)
    found = represent(checkpoint, prepared, cache)
    images = [key for one in prepared for key in one.images]
    assert (cache.computed, cache.reused) == (3, len(images) - 3)
    for row, sample in zip(found, samples, strict=True):
        reference = reference_row(model, processor, family, sample, **options)
        assert agreement(row.kept, row.vector, reference) != "different"


@pytest.mark.parametrize("family", ["gemma3", "paligemma"])
def test_features_in_one_tensor_are_shared_as_well(loaded, checkpoints, pictures, family):
    conversations = [talk for talk in sample_conversations() if [turn.role for turn in talk.turns][1:] == ["assistant"]]
    samples = as_samples(conversations, pictures[:3])
    model, processor = load_reference(checkpoints(family))
    checkpoint, cache = loaded(family), ImageFeatureCache()
    prepared = prepare(checkpoint, samples)
    found = represent(checkpoint, prepared, cache, batch=2)
    assert (cache.computed, cache.reused) == (3, sum(len(one.images) for one in prepared) - 3)
    for row, sample in zip(found, samples, strict=True):
        assert agreement(row.kept, row.vector, reference_row(model, processor, family, sample)) != "different"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tower_runs_over_new_images_alone(loaded, samples, family):
    checkpoint, cache = loaded(family), ImageFeatureCache()
    model = checkpoint.first_layer.model
    tower = model.vision_tower if family == "llava" else model.visual
    seen = []

    def note(_module, arguments, options):
        pixels = arguments[0] if arguments else options["pixel_values"]
        grid = options.get("grid_thw")
        seen.append(len(pixels) if grid is None else len(grid))

    handle = tower.register_forward_pre_hook(note, with_kwargs=True)
    try:
        represent(checkpoint, prepare(checkpoint, samples), cache)
        represent(checkpoint, prepare(checkpoint, samples), cache)
    finally:
        handle.remove()
    assert sum(seen) == 3
    assert "get_image_features" not in vars(model)


def test_wrong_keys_would_be_noticed(loaded, checkpoints, samples):
    """The same key for different pictures gives other rows: the comparison above can fail."""
    model, processor = load_reference(checkpoints("llava"))
    checkpoint = loaded("llava")
    prepared = [
        checkpoint.preparer.prepare(
            sample, [Image.open(image.path).convert("RGB") for image in sample.images], ["same"] * len(sample.images)
        )
        for sample in samples
    ]
    found = represent(checkpoint, prepared, ImageFeatureCache())
    kinds = [
        agreement(row.kept, row.vector, reference_row(model, processor, "llava", sample))
        for row, sample in zip(found, samples, strict=True)
    ]
    assert "different" in kinds


def test_without_keys_nothing_is_reused(loaded, samples):
    checkpoint, cache = loaded("llava"), ImageFeatureCache()
    plain = represent(checkpoint, prepare(checkpoint, samples, keys=False), cache)
    alone = represent(checkpoint, prepare(checkpoint, samples), None)
    assert (cache.computed, cache.reused) == (0, 0)
    assert all(np.array_equal(one.vector, other.vector) for one, other in zip(plain, alone, strict=True))


def test_the_oldest_image_is_forgotten_first(loaded, pictures):
    samples = as_samples(sample_conversations()[:1] * 6, pictures)  # six pictures, one sample each
    checkpoint, cache = loaded("llava"), ImageFeatureCache(images=2)
    prepared = prepare(checkpoint, samples)
    represent(checkpoint, [prepared[0], prepared[1], prepared[0], prepared[2], prepared[0]], cache, batch=1)
    assert (cache.computed, cache.reused) == (3, 2)
    represent(checkpoint, [prepared[1]], cache, batch=1)
    assert cache.computed == 4


def test_a_batch_with_more_images_than_are_remembered(loaded, pictures):
    samples = as_samples(sample_conversations()[:1] * 6, pictures)
    checkpoint = loaded("qwen2_5_vl")
    prepared = prepare(checkpoint, samples)
    found = represent(checkpoint, prepared, ImageFeatureCache(images=2), batch=6)
    alone = represent(checkpoint, prepared, None, batch=6)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5 * np.abs(other.vector).max())


def test_images_that_cannot_be_told_apart_are_left_to_the_model():
    cache, calls = ImageFeatureCache(), []

    class Model:
        def get_image_features(self, pixel_values, **options):
            calls.append((tuple(pixel_values.shape), sorted(options)))

    model = Model()
    tiles = torch.zeros(2, 5, 3, 4, 4)  # several tiles an image
    with cache.used_by(model, ["a", "b"]):
        model.get_image_features(pixel_values=tiles, image_sizes=torch.ones(2, 2))
        model.get_image_features(pixel_values=torch.zeros(3, 3, 4, 4))  # three pictures, two keys
        model.get_image_features(pixel_values=torch.zeros(2, 3, 4, 4), some_mask=torch.ones(2))
    assert [shape for shape, _ in calls] == [(2, 5, 3, 4, 4), (3, 3, 4, 4), (2, 3, 4, 4)]
    assert calls[0][1] == ["image_sizes"]
    assert cache.reused == 0


def test_a_model_that_hands_images_on_otherwise_is_left_alone():
    cache, calls = ImageFeatureCache(), []

    class Together:
        def get_image_features(self, pixel_values):
            calls.append(len(pixel_values))
            return pixel_values.flatten(1)  # one tensor for all images

    model, pictures = Together(), torch.arange(3.0 * 3 * 4).reshape(3, 3, 2, 2)
    for _ in range(2):
        with cache.used_by(model, ["a", "b", "a"]):
            assert torch.equal(model.get_image_features(pictures), pictures.flatten(1))
    assert calls == [2, 3, 3]  # tried once
    assert cache.reused == 0

    class Without:
        pass

    model = Without()
    with cache.used_by(model, ["a"]):
        assert not hasattr(model, "get_image_features")


@pytest.mark.parametrize(
    ("beside", "expected"), [({}, [2]), ({"last_hidden_state": 1}, [2]), ({"indicators": 1}, [2, 3, 3])]
)
def test_images_as_one_tensor_are_reused_where_nothing_else_is_handed_on(beside, expected):
    cache, calls = ImageFeatureCache(), []

    class Stacked:
        def get_image_features(self, pixel_values):
            calls.append(len(pixel_values))
            return SimpleNamespace(pooler_output=pixel_values.flatten(2), **beside)

    model, pictures = Stacked(), torch.arange(2.0 * 3 * 4).reshape(2, 3, 2, 2)[[0, 1, 0]]
    for _ in range(2):
        with cache.used_by(model, ["a", "b", "a"]):
            assert torch.equal(model.get_image_features(pictures).pooler_output, pictures.flatten(2))
    assert calls == expected  # what is handed on otherwise is found out once and left alone from then on


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_with_and_without_reuse(tmp_path, pictures, checkpoints, family):
    data = write_pool(tmp_path, pictures[:2], rows=20)
    stores = {}
    for reuse in ("on", "off"):
        out = tmp_path / reuse
        words = ["represent", data, "--model", checkpoints(family), "--output", out, "--image-reuse", reuse]
        assert command(*words) == 0
        stores[reuse] = RepresentationStore(out / "representations").representations(0)[1]
    np.testing.assert_allclose(stores["on"], stores["off"], atol=1e-4 * np.abs(stores["off"]).max())


def test_a_shard_does_not_depend_on_the_one_before(tmp_path, pictures, checkpoints, monkeypatch):
    data = write_pool(tmp_path, pictures[:1], rows=8)
    made = []
    original = shard_work.ImageFeatureCache
    monkeypatch.setattr(shard_work, "ImageFeatureCache", lambda: made.append(original()) or made[-1])
    words = ["represent", data, "--model", checkpoints("llava"), "--output", tmp_path / "run", "--shard-size", "4"]
    assert command(*words) == 0
    assert [(cache.computed, cache.reused) for cache in made] == [(1, 0), (1, 0)]
    reports = [json.loads(path.read_bytes()) for path in sorted((tmp_path / "run" / "representations").glob("*.json"))]
    assert [report["reuse"] for report in reports] == [
        {"images_computed": 1, "images_reused": 0, "prefixes_reused": 3}
    ] * 2

"""Another decoder layer, all vision tokens, DeepStack, the instruction's own vector: against the full model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from conversations import as_samples, sample_conversations
from direct_reference import agreement, load_reference, reference_row
from scalselect.config import RepresentConfig
from scalselect.errors import OptionError
from scalselect.representation_store import RepresentationStore
from scalselect.vlm.checkpoint import load_checkpoint, model_restored
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings
from small_pools import command, write_pool

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl"]
BOTH = Pooling(instruction_vector=True)


def represent(checkpoint, samples, pooling, batch=3):
    prepared = [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]
    found = []
    for start in range(0, len(prepared), batch):
        found += represent_samples(checkpoint, prepared[start : start + batch], pooling)[0]
    return prepared, found


@pytest.fixture(scope="module")
def samples(pictures):
    return as_samples(sample_conversations(), pictures)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_another_layer_agree(loaded, checkpoints, samples, family):
    model, processor = load_reference(checkpoints(family))
    checkpoint = loaded(family, layer=1, vectors="vision+instruction")
    layers = {
        name.split("layers.")[1][0]
        for name, _ in checkpoint.first_layer._model.language_model.named_parameters()
        if "layers." in name
    }
    assert layers == {"0", "1"}
    _, found = represent(checkpoint, samples, BOTH)
    first = [reference_row(model, processor, family, sample) for sample in samples]
    expected = [reference_row(model, processor, family, sample, layer=1) for sample in samples]
    kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
    assert "different" not in kinds
    assert kinds.count("flipped") <= 0.1 * len(kinds)
    # The layers are not alike, so the test could fail.
    assert "different" in [agreement(row.kept, row.vector, other) for row, other in zip(found, first, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_instructions_own_vector(loaded, checkpoints, samples, family):
    model, processor = load_reference(checkpoints(family))
    checkpoint = loaded(family, vectors="vision+instruction")
    prepared, found = represent(checkpoint, samples, BOTH)
    plain = represent(checkpoint, samples, Pooling())[1]
    without = 0
    for row, alone, sample, one in zip(found, plain, samples, prepared, strict=True):
        expected = reference_row(model, processor, family, sample).instruction_vector
        assert alone.instruction_vector is None
        assert np.array_equal(row.vector, alone.vector)
        if len(one.instruction) == 0:
            without += 1
            assert np.isnan(row.instruction_vector).all()
            assert row.finite
        else:
            np.testing.assert_allclose(row.instruction_vector, expected, atol=1e-4 * np.abs(expected).max())
    assert without == 1  # the caption


@pytest.mark.parametrize("family", FAMILIES)
def test_all_vision_tokens(loaded, checkpoints, samples, family):
    model, processor = load_reference(checkpoints(family))
    checkpoint = loaded(family, pooling="all")
    prepared, found = represent(checkpoint, samples, Pooling(attention_mass=None))
    for row, sample, one in zip(found, samples, prepared, strict=True):
        expected = reference_row(model, processor, family, sample).hidden.mean(axis=0)
        np.testing.assert_allclose(row.vector, expected, atol=1e-4 * np.abs(expected).max())
        assert row.kept.tolist() == one.vision.tolist()
        assert (row.cut_margin, row.uniform) == (None, False)
        assert one.length == int(one.vision.max()) + 2  # of what follows the last vision token, one token is run


def test_deepstack_features_are_left_out_or_taken_in(loaded, checkpoints, samples):
    """`include` is what layer 1 of the full model is given; `exclude` is what layer 0 itself returns."""
    model, _ = load_reference(checkpoints("qwen3_vl"))
    decoder, seen = model.model.language_model, {}
    decoder.layers[0].register_forward_hook(lambda _m, _i, output: seen.update(own=output))
    decoder.layers[1].register_forward_pre_hook(lambda _m, inputs: seen.update(handed_on=inputs[0]))
    both = {name: loaded("qwen3_vl", deepstack=name) for name in ("exclude", "include")}
    prepared, rows = {}, {}
    for name, checkpoint in both.items():
        prepared[name], rows[name] = represent(checkpoint, samples[:4], Pooling(), batch=1)
    for i in range(4):
        with torch.no_grad():
            model(**prepared["exclude"][i].inputs)
        for name, key in (("exclude", "own"), ("include", "handed_on")):
            expected = seen[key][0][rows[name][i].kept].mean(dim=0).numpy()
            np.testing.assert_allclose(rows[name][i].vector, expected, atol=1e-4 * np.abs(expected).max())
        assert np.abs(rows["include"][i].vector - rows["exclude"][i].vector).max() > 1e-2


def test_a_later_layer_is_given_the_deepstack_features_of_those_before(checkpoints, samples, loaded):
    model, processor = load_reference(checkpoints("qwen3_vl"))
    mergers = [n for n, _ in loaded("qwen3_vl", layer=1).first_layer._model.named_parameters() if "deepstack" in n]
    assert mergers
    assert not [n for n, _ in loaded("qwen3_vl").first_layer._model.named_parameters() if "deepstack" in n]
    _, found = represent(loaded("qwen3_vl", layer=1), samples[:4], Pooling())
    for row, sample in zip(found, samples, strict=False):
        assert (
            agreement(row.kept, row.vector, reference_row(model, processor, "qwen3_vl", sample, layer=1)) != "different"
        )


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("llava", {"layer": 3}, "between 0 and 2"),
        ("llava", {"deepstack": "include"}, "no vision features after decoder layer 0"),
        ("qwen3_vl", {"deepstack": "include", "layer": 2}, "no vision features after decoder layer 2"),
    ],
)
def test_options_without_effect_are_refused(checkpoints, family, options, words):
    path, config = checkpoints(family), RepresentConfig(**options)
    with pytest.raises(OptionError, match=words):
        load_checkpoint(path, config, resolve_settings(config, path, None))


def test_a_loaded_model_stops_at_the_layer(checkpoints, samples, loaded):
    path = checkpoints("qwen3_vl")
    model, processor = AutoModelForImageTextToText.from_pretrained(path), AutoProcessor.from_pretrained(path)
    for options in ({"layer": 1}, {"deepstack": "include"}):
        config = RepresentConfig(**options)
        with model_restored(model):
            checkpoint = load_checkpoint(model, config, resolve_settings(config, model, None), processor=processor)
            _, found = represent(checkpoint, samples[:3], Pooling())
        _, expected = represent(loaded("qwen3_vl", **options), samples[:3], Pooling())
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.vector, other.vector, atol=1e-5 * np.abs(other.vector).max())


def test_options_reach_a_run_and_its_store(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path, pictures)

    def store(name, *options):
        out = tmp_path / name
        assert command("represent", data, "--model", checkpoints("qwen3_vl"), "--output", out, *options) == 0
        return RepresentationStore(out / "representations")

    plain = store("plain")
    vectors = plain.representations(0)[1]
    assert plain.instruction_representations(0) is None
    both = store("both", "--vectors", "vision+instruction")
    assert np.array_equal(both.representations(0)[1], vectors)
    assert both.instruction_representations(0).shape == vectors.shape
    assert both.instruction_representations(0).dtype == np.float32
    for number, options in enumerate((["--layer", "1"], ["--pooling", "all"], ["--deepstack", "include"])):
        assert np.abs(store(f"other{number}", *options).representations(0)[1] - vectors).max() > 1e-4, options
    assert store("all", "--pooling", "all").rows(0)["cut_margin"].null_count == 12
    assert json.loads((tmp_path / "both" / "run.json").read_text())["represent"]["vectors"] == "vision+instruction"

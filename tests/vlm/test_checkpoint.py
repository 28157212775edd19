import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from scalselect.config import RepresentConfig
from scalselect.errors import ModelError, OptionError
from scalselect.vlm.checkpoint import load_checkpoint, model_restored
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.settings import resolve_settings

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl"]


def load(path, processor=None, **options):
    config = RepresentConfig(**options)
    return load_checkpoint(path, config, resolve_settings(config, path, None), processor=processor)


@pytest.fixture
def copy(checkpoints, tmp_path):
    def copied(family):
        return shutil.copytree(checkpoints(family), tmp_path / family)

    return copied


@pytest.mark.parametrize("family", FAMILIES)
def test_only_parameters_of_the_first_layer_are_materialised(loaded, checkpoints, family):
    checkpoint = loaded(family)
    names = {name for name, _ in checkpoint.first_layer._model.named_parameters()}
    assert not [name for name in names if "layers.1." in name and "language_model" in name]
    assert not [name for name in names if "lm_head" in name or "deepstack" in name]
    full = AutoModelForImageTextToText.from_pretrained(checkpoints(family))
    assert checkpoint.parameter_bytes < 0.8 * sum(p.nbytes for p in full.parameters())
    of_full = {name.removeprefix("model."): value for name, value in full.named_parameters()}
    for name, value in checkpoint.first_layer._model.named_parameters():
        assert torch.equal(value, of_full[name]), name


def test_llava_leaves_out_the_tower_layer_nobody_reads(loaded):
    names = {name for name, _ in loaded("llava").first_layer._model.named_parameters()}
    assert any("encoder.layers.1." in name for name in names)
    assert not any("encoder.layers.2." in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rehearsal_passes(loaded, family):
    rehearse(loaded(family), RepresentConfig())


def test_a_missing_tensor_stops(copy):
    folder = copy("llava")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "language_model" in name and "layers.0.self_attn.q_proj" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing_keys.*q_proj"):
        load(folder)


def test_a_tensor_of_another_shape_stops(copy):
    folder = copy("llava")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "multi_modal_projector.linear_1.bias" in name)
    tensors[name] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"linear_1\.bias|mismatched|size"):
        load(folder)


def test_a_missing_tensor_of_a_later_layer_does_not_matter(copy):
    folder = copy("llava")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "layers.2." not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)


def test_weights_that_cannot_be_read_stop(copy):
    folder = copy("llava")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        load(folder)


def test_a_checkpoint_without_processor_or_template_is_refused(copy):
    folder = copy("llava")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="--chat-template"):
        load(folder)
    load(folder, chat_template="vicuna")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="processor"):
        load(folder)


def test_fingerprint_knows_what_changed(copy):
    folder = copy("qwen3_vl")
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before

    def changed():
        after = load(folder).fingerprint
        return {name for name in before if after[name] != before[name]}

    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text + " ")
    assert changed() == {"chat_template"}
    template.write_text(text)
    processor = folder / "processor_config.json"
    text = processor.read_text()
    facts = json.loads(text)
    facts["image_processor"]["image_mean"] = [0.4, 0.5, 0.5]
    processor.write_text(json.dumps(facts))
    assert changed() == {"processor"}
    processor.write_text(text)
    config = folder / "config.json"
    text = config.read_text()
    facts = json.loads(text)
    facts["text_config"]["rms_norm_eps"] = 1e-3
    config.write_text(json.dumps(facts))
    assert changed() == {"config"}
    config.write_text(text)
    tensors = load_file(folder / "model.safetensors")
    last = next(name for name in tensors if "language_model" in name and "layers.2." in name)
    tensors[last] += 1  # not read, so no change
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert changed() == set()
    first = next(name for name in tensors if "language_model" in name and "layers.0." in name)
    tensors[first].view(-1)[-1] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert changed() == {"weights"}


def test_fingerprint_knows_stored_numbers_that_are_no_parameters(copy):
    folder = copy("gemma4")
    before = load(folder).fingerprint["weights"]
    for layer, changes in ((2, False), (0, True)):
        tensors = load_file(folder / "model.safetensors")
        tensors[next(name for name in tensors if f"layers.{layer}.layer_scalar" in name)] *= 2
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert (load(folder).fingerprint["weights"] != before) == changes


def test_a_loaded_model_is_used_as_it_is_and_given_back(checkpoints, loaded):
    model = AutoModelForImageTextToText.from_pretrained(checkpoints("qwen2_5_vl"))
    processor = AutoProcessor.from_pretrained(checkpoints("qwen2_5_vl"))
    before = model.config.get_text_config()._attn_implementation
    with model_restored(model):
        checkpoint = load(model, processor=processor)
        rehearse(checkpoint, RepresentConfig())
        assert model.config.get_text_config()._attn_implementation != before
    assert model.config.get_text_config()._attn_implementation == before
    again = AutoModelForImageTextToText.from_pretrained(checkpoints("qwen2_5_vl"))
    assert load(again, processor=processor).fingerprint == checkpoint.fingerprint
    with pytest.raises(OptionError, match="processor"):
        load(model)
    with pytest.raises(OptionError, match="dtype cannot be changed"):
        load(model, processor=processor, dtype="bfloat16")


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_folder_and_the_same_checkpoint_loaded_are_one_model(checkpoints, loaded, family):
    model = AutoModelForImageTextToText.from_pretrained(checkpoints(family))
    processor = AutoProcessor.from_pretrained(checkpoints(family))
    processor.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=5)  # use must not change the hash
    assert load(model, processor=processor).fingerprint == loaded(family).fingerprint


def test_a_loaded_model_keeps_its_mode(checkpoints):
    model = AutoModelForImageTextToText.from_pretrained(checkpoints("llava")).train()
    with model_restored(model):
        load(model, processor=AutoProcessor.from_pretrained(checkpoints("llava")))
        assert not model.training
    assert model.training


@pytest.mark.parametrize("model", [object(), None, 5])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(OptionError, match="must be a folder, a hub name, or a loaded"):
        load(model)


def test_a_processor_that_is_none_is_refused(checkpoints):
    model = AutoModelForImageTextToText.from_pretrained(checkpoints("llava"))
    with pytest.raises(ModelError, match="no image processor"):
        load(model, processor=AutoProcessor.from_pretrained(checkpoints("llava")).tokenizer)


def test_a_revision_of_a_folder_is_refused(checkpoints):
    with pytest.raises(OptionError, match="revision has no effect"):
        load(checkpoints("llava"), revision="v2")


def test_a_length_limit_without_room_is_refused_by_its_name(loaded):
    with pytest.raises(OptionError, match=r"max_length leaves no room .*: 20 "):
        rehearse(loaded("llava", max_length=20), RepresentConfig(max_length=20))


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("1000", None), ("no number", None)])
def test_auto_threads_follow_the_environment(checkpoints, monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    expected = threads or len(os.sched_getaffinity(0))
    assert resolve_settings(RepresentConfig(), checkpoints("llava"), None).threads == expected


def test_pixel_limits_are_refused_where_they_have_no_effect(checkpoints):
    with pytest.raises(OptionError, match="no effect"):
        load(checkpoints("llava"), image_max_pixels=1000)
    with pytest.raises(OptionError, match="exceeds"):
        load(checkpoints("qwen2_5_vl"), image_max_pixels=10)


def test_half_precision_models_run(checkpoints):
    checkpoint = load(checkpoints("llava"), dtype="bfloat16")
    assert next(checkpoint.first_layer._model.parameters()).dtype == torch.bfloat16
    rehearse(checkpoint, RepresentConfig())


def test_auto_keeps_what_the_run_settled_on(checkpoints):
    recorded = {"dtype": "bfloat16", "threads": 7, "max_rows": 3, "batch_tokens": 99}
    settings = resolve_settings(RepresentConfig(), checkpoints("llava"), recorded)
    assert (settings.dtype, settings.threads, settings.max_rows, settings.batch_tokens) == ("bfloat16", 7, 3, 99)
    asked = resolve_settings(RepresentConfig(dtype="float32", threads=1, batch_size=5), checkpoints("llava"), recorded)
    assert (asked.dtype, asked.threads, asked.max_rows, asked.batch_tokens) == ("float32", 1, 5, 99)
    fresh = resolve_settings(RepresentConfig(), checkpoints("llava"), None)
    assert (fresh.dtype, fresh.device, fresh.max_rows) == ("float32", "cpu", None)

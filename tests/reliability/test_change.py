"""Whatever decides the vectors may not change while a run is under way; whatever does not, may."""

import json
import shutil
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from scalselect import represent_keys, shard_worker, workforce
from scalselect.config import NOT_KEYS, RepresentConfig
from small_pools import command, promised_files, write_pool

# A value other than the default of every option that is a key of its own in run.json, on the command line.
OTHER = {
    "images": "FOLDER",
    "trust_remote_code": None,
    "instruction_tokens": "non-assistant",
    "attention_mass": 0.8,
    "layer": 1,
    "pooling": "all",
    "deepstack": "include",
    "vectors": "vision+instruction",
    "store_dtype": "float16",
    "allow_remote_images": None,
    "like": "ms-swift",
    "image_position": "turn-start",
    "exif": "apply",
    "alpha": "white",
    "image_fit": "pad",
    "image_resize": "before",
    "image_min_pixels": 100,
    "image_max_pixels": 10_000,
    "max_length": 500,
    "image_reuse": "off",
    "order": "image",
    "dtype": "bfloat16",
    "threads": 3,
    "decode_max_pixels": 5_000_000,
    "confine_images": None,
    "shard_size": 6,
    "limit": 9,
}
RESOLVED = {"format": "data_format", "dataset_info": "mapping", "chat_template": "model_chat_template"}
RESOLVED |= {"revision": "of a hub alone; see below", "batch_size": "max_rows", "device": "no key: shards record it"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures, checkpoints):
    """Return a folder with a model and a finished run of 12 rows in three shards, and the words of its command."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(checkpoints("llava"), folder / "model")
    data = write_pool(folder / "data", pictures, rows=12)
    words = ["run", data, "--model", folder / "model", "--budget", "50%", "--shard-size", "5"]
    assert command(*words, "--output", folder / "run") == 0
    return folder, words


@pytest.fixture
def begun(finished, tmp_path):
    """Return a copy of the run whose last shard is missing, and the words that continue it."""
    out = shutil.copytree(finished[0] / "run", tmp_path / "run")
    (out / "representations" / "shard-0000002.json").unlink()
    return out, [*finished[1], "--output", out]


def refused(capsys, words):
    capsys.readouterr()
    assert command(*words) == 2
    message = capsys.readouterr().err
    assert "use another output folder, or call with the same values" in message
    return message


def test_no_option_is_forgotten():
    assert {item.name for item in fields(RepresentConfig)} == {*OTHER, *RESOLVED, *NOT_KEYS}


@pytest.mark.parametrize("option", OTHER)
def test_an_option(begun, tmp_path, capsys, monkeypatch, option):
    _, words = begun
    monkeypatch.setattr(shard_worker, "load_checkpoint", None)  # refused before the model is loaded
    value = OTHER[option]
    more = ["--image-max-pixels", "10000"] if option == "image_resize" else []
    value = tmp_path if value == "FOLDER" else value
    given = [f"--{option.replace('_', '-')}", *([] if value is None else [value])]
    message = refused(capsys, [*words, *given, *more])
    assert f"  {option}: " in message
    assert " in the run folder, " in message


def test_a_revision(begun, capsys, monkeypatch):
    """A folder has no revisions, so here it is the run that had one."""
    out, words = begun
    monkeypatch.setattr(shard_worker, "load_checkpoint", None)
    content = json.loads((out / "run.json").read_text())
    del content["seal"]  # edited on purpose
    content["represent"]["revision"] = "v2"
    (out / "run.json").write_text(json.dumps(content))
    assert "  revision: 'v2' in the run folder, not given in this call" in refused(capsys, words)


def test_the_data(begun, finished, tmp_path, capsys, monkeypatch):
    _, words = begun
    monkeypatch.setattr(shard_worker, "load_checkpoint", None)
    other = tmp_path / "pool.json"
    other.write_text(words[1].read_text().replace("red", "RED"))
    message = refused(capsys, [words[0], other, *words[2:]])
    assert "  data_sha256: '" in message


@pytest.mark.parametrize("what", ["numerics_version", "transformers"])
def test_versions(begun, capsys, monkeypatch, what):
    _, words = begun
    monkeypatch.setattr(shard_worker, "load_checkpoint", None)
    now = ".".join(metadata.version("transformers").split(".")[:2])
    if what == "numerics_version":
        now = represent_keys.NUMERICS_VERSION
        monkeypatch.setattr(represent_keys, "NUMERICS_VERSION", now + 1)
        assert f"  numerics_version: {now} in the run folder, {now + 1} in this call" in refused(capsys, words)
    else:
        version = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: "99.1.2" if name == "transformers" else version(name))
        assert f"  transformers: '{now}' in the run folder, '99.1' in this call" in refused(capsys, words)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_tensor(path, name):
    tensors = load_file(path)
    tensors[name] += 0.01
    save_file(tensors, path, metadata={"format": "pt"})


CHANGES = {
    "config": (
        "model_config",
        lambda model: edit_json(
            model / "config.json", lambda content: content["text_config"].update(rms_norm_eps=1e-4)
        ),
    ),
    "tokenizer": (
        "model_processor",
        lambda model: edit_json(
            model / "tokenizer.json", lambda content: content["added_tokens"][-1].update(lstrip=True)
        ),
    ),
    "processor": (
        "model_processor",
        lambda model: edit_json(
            model / "processor_config.json",
            lambda content: content["image_processor"].update(image_mean=[0.1, 0.2, 0.3]),
        ),
    ),
    "template": (
        "model_chat_template",
        lambda model: (model / "chat_template.jinja").write_text((model / "chat_template.jinja").read_text() + "\n"),
    ),
    "vision tensor": (
        "model_weights",
        lambda model: edit_tensor(model / "model.safetensors", "vision_tower.encoder.layers.0.mlp.fc1.bias"),
    ),
    "layer 0 tensor": (
        "model_weights",
        lambda model: edit_tensor(model / "model.safetensors", "language_model.model.layers.0.self_attn.q_proj.weight"),
    ),
}


def with_model(words, tmp_path):
    model = shutil.copytree(words[3], tmp_path / "model")
    return model, [*words[:3], model, *words[4:]]


@pytest.mark.parametrize("what", CHANGES)
def test_the_model(begun, tmp_path, capsys, what):
    out, words = begun
    model, words = with_model(words, tmp_path)
    key, change = CHANGES[what]
    change(model)
    message = refused(capsys, words)
    assert f"  {key}: '" in message
    assert message.count(" in this call") == 1
    assert not (out / "representations" / "shard-0000002.json").exists()


def test_a_tensor_that_is_not_read_may_change(finished, begun, tmp_path):
    out, words = begun
    model, words = with_model(words, tmp_path)
    edit_tensor(model / "model.safetensors", "language_model.model.layers.2.input_layernorm.weight")
    edit_tensor(model / "model.safetensors", "language_model.lm_head.weight")
    assert command(*words) == 0
    assert promised_files(out) == promised_files(finished[0] / "run")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_number_of_workers_may_change(finished, begun, workers):
    out, words = begun
    assert command(*words, "--dataloader-workers", workers) == 0
    assert promised_files(out) == promised_files(finished[0] / "run")


def test_the_order_of_work_over_shards_changes_nothing(finished, tmp_path, monkeypatch):
    words = [*finished[1], "--output", tmp_path / "run"]
    run_tasks = workforce.run_tasks
    orders = []

    def backwards(tasks, *arguments, **options):
        orders.append(list(tasks)[::-1])
        return run_tasks(orders[-1], *arguments, **options)

    monkeypatch.setattr("scalselect.workforce.run_tasks", backwards)
    assert command(*words) == 0
    assert orders == [[2, 1, 0]]
    assert promised_files(tmp_path / "run") == promised_files(finished[0] / "run")


def test_other_versions_and_devices_of_shards_are_a_warning(begun, monkeypatch):
    out, words = begun
    versions = shard_worker.library_versions()
    monkeypatch.setattr(shard_worker, "library_versions", lambda: {**versions, "numpy": "0.1", "new library": "1"})
    report = out / "representations" / "shard-0000001.json"
    edit_json(report, lambda content: content.update(device="cuda"))
    (out / "selection.json").unlink()
    assert command(*words) == 0
    warnings = json.loads((out / "selection.json").read_text())["warnings"]
    assert "shards were represented on different kinds of device: cpu, cuda" in warnings
    assert "shards were represented with different versions of new library, numpy" in warnings
    recorded = json.loads((out / "representations" / "shard-0000002.json").read_text())["versions"]
    assert recorded["numpy"] == "0.1"


def test_the_folder_may_be_moved(finished, tmp_path):
    out = shutil.copytree(finished[0] / "run", tmp_path / "elsewhere")
    assert command(*finished[1], "--output", out) == 0
    assert Path(out, "selection.json").read_bytes() == (finished[0] / "run" / "selection.json").read_bytes()

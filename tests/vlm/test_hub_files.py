import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hub import TOKEN, UNREAD, files_read, represent, vectors

ON_HUB = ["llava", "qwen2_5_vl", "qwen3_vl"]


@pytest.fixture(scope="module")
def expected(online, pool, checkpoints, tmp_path_factory):
    """Return the vectors of the tiny LLaVA checkpoint, read from its folder."""
    output = tmp_path_factory.mktemp("expected") / "run"
    assert represent(online, pool, checkpoints("llava"), output)[0] == 0
    return vectors(output)


def recorded(run):
    return json.loads((run / "run.json").read_bytes())


def weights(repository):
    return {file for file in repository.downloaded() if file.endswith((".safetensors", ".bin"))}


@pytest.mark.parametrize("family", ON_HUB)
def test_only_files_with_needed_tensors_are_downloaded(family, hub, online, offline, sharded, pool, tmp_path):
    folder = sharded(family)
    repository = hub.add(f"owner/{family}", folder)
    code, said = represent(online, pool, f"owner/{family}", tmp_path / "from-hub")
    assert code == 0, said
    assert weights(repository) == files_read(folder, UNREAD[family])
    assert max(repository.requests["GET", file] for file in repository.downloaded()) == 1
    assert represent(online, pool, folder, tmp_path / "from-folder")[0] == 0
    assert np.array_equal(vectors(tmp_path / "from-hub"), vectors(tmp_path / "from-folder"))
    assert recorded(tmp_path / "from-hub")["model_commit"] == repository.names["main"]
    assert recorded(tmp_path / "from-folder")["model_commit"] is None

    repository.requests.clear()
    assert represent(online, pool, f"owner/{family}", tmp_path / "again")[0] == 0
    assert repository.downloaded() == set()
    repository.requests.clear()
    code, said = represent(offline, pool, f"owner/{family}", tmp_path / "offline")
    assert code == 0, said
    assert not repository.requests
    assert np.array_equal(vectors(tmp_path / "offline"), vectors(tmp_path / "from-folder"))


def test_a_deeper_layer_needs_more_files(hub, online, sharded, pool, tmp_path):
    repository = hub.add("owner/deeper", sharded("llava"))
    assert represent(online, pool, "owner/deeper", tmp_path / "run", "--layer", "1")[0] == 0
    deeper = UNREAD["llava"].replace(r"model\.layers\.[12]\.", r"model\.layers\.2\.")
    assert weights(repository) == files_read(sharded("llava"), deeper)
    assert weights(repository) > files_read(sharded("llava"), UNREAD["llava"])


def test_a_single_file(hub, online, offline, checkpoints, pool, expected, tmp_path):
    repository = hub.add("owner/single", checkpoints("llava"))
    assert represent(online, pool, "owner/single", tmp_path / "run")[0] == 0
    assert weights(repository) == {"model.safetensors"}
    assert np.array_equal(vectors(tmp_path / "run"), expected)
    assert represent(offline, pool, "owner/single", tmp_path / "offline")[0] == 0


def pickled(folder, place):
    """Copy a sharded checkpoint with its weights as pickles."""
    shutil.copytree(folder, place)
    index = json.loads((place / "model.safetensors.index.json").read_text())
    for file in place.glob("*.safetensors"):
        torch.save(load_file(file), place / file.name.replace(".safetensors", ".bin"))
        file.unlink()
    (place / "model.safetensors.index.json").unlink()
    index["weight_map"] = {name: file.replace(".safetensors", ".bin") for name, file in index["weight_map"].items()}
    (place / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return place


def test_pickled_shards(hub, online, sharded, pool, expected, tmp_path):
    repository = hub.add("owner/pickled", pickled(sharded("llava"), tmp_path / "pickled"))
    code, said = represent(online, pool, "owner/pickled", tmp_path / "run")
    assert code == 0, said
    read = {file.replace(".safetensors", ".bin") for file in files_read(sharded("llava"), UNREAD["llava"])}
    assert weights(repository) == read
    assert np.array_equal(vectors(tmp_path / "run"), expected)


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_of_more_than_tensors_are_not_run(hub, online, sharded, pool, tmp_path):
    folder = pickled(sharded("llava"), tmp_path / "pickled")
    needed = next(iter(files_read(sharded("llava"), UNREAD["llava"]))).replace(".safetensors", ".bin")
    torch.save({"a": Command(str(tmp_path / "made"))}, folder / needed)
    hub.add("owner/unsafe", folder)
    code, said = represent(online, pool, "owner/unsafe", tmp_path / "run")
    assert (code, (tmp_path / "made").exists()) == (2, False)
    assert "model weights are no pickle of tensors alone, and nothing else is unpickled: owner/unsafe" in said


def changed(folder, place):
    """Copy a checkpoint with other weights."""
    shutil.copytree(folder, place)
    tensors = load_file(place / "model.safetensors")
    name = next(name for name in tensors if "language_model" in name and "layers.0.mlp.down_proj" in name)
    tensors[name] = tensors[name] * 1.5
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    return place


def test_a_pinned_revision_and_a_repository_that_goes_on(hub, online, offline, checkpoints, pool, expected, tmp_path):
    repository = hub.add("owner/moving", checkpoints("llava"))
    first = repository.names["main"]
    assert represent(online, pool, "owner/moving", tmp_path / "run", "--limit", "3")[0] == 0

    second = "5" * 40
    repository.commits[second] = changed(checkpoints("llava"), tmp_path / "changed")
    repository.names |= {"main": second, "v1": first}
    code, said = represent(online, pool, "owner/moving", tmp_path / "run", "--limit", "3")
    assert code == 0, said  # goes on with the commit that it began with
    assert recorded(tmp_path / "run")["model_commit"] == first

    assert represent(online, pool, "owner/moving", tmp_path / "new")[0] == 0
    assert recorded(tmp_path / "new")["model_commit"] == second
    assert not np.array_equal(vectors(tmp_path / "new"), expected)
    for revision in ("v1", first):
        output = tmp_path / revision
        assert represent(online, pool, "owner/moving", output, "--revision", revision)[0] == 0
        assert np.array_equal(vectors(output), expected)
        assert recorded(output)["model_commit"] == first
        assert recorded(output)["represent"]["revision"] == revision
    assert represent(offline, pool, "owner/moving", tmp_path / "offline", "--revision", "v1")[0] == 0

    code, said = represent(online, pool, "owner/moving", tmp_path / "none", "--revision", "v9")
    assert (code, (tmp_path / "none").exists()) == (2, False)
    assert "model cannot be opened: owner/moving (it has no revision v9)" in said


def test_a_private_repository(hub, online, checkpoints, pool, expected, tmp_path):
    hub.add("owner/private", checkpoints("llava"), private=True)
    code, said = represent(online, pool, "owner/private", tmp_path / "run")
    assert (code, (tmp_path / "run").exists()) == (2, False)
    assert "set HF_TOKEN" in said
    code, said = represent(online, pool, "owner/private", tmp_path / "run", HF_TOKEN=TOKEN)
    assert code == 0, said
    assert np.array_equal(vectors(tmp_path / "run"), expected)


def test_a_gated_repository(hub, online, checkpoints, pool, tmp_path):
    hub.add("owner/gated", checkpoints("llava"), gated=True)
    code, said = represent(online, pool, "owner/gated", tmp_path / "run")
    assert code == 2
    assert "model cannot be opened: owner/gated (access must be granted" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner/nothing", "the hub has no such repository"),
        ("owner--no..name", "owner--no..name"),
        ("owner/no-config", "its repository has no config.json"),
        ("owner/no-weights", "model weights cannot be loaded: owner/no-weights (looked for model.safetensors"),
        ("owner/no-shard", "model weights are incomplete on the hub: owner/no-shard has no file model-000"),
    ],
)
def test_what_a_hub_does_not_have(hub, online, sharded, pool, tmp_path, name, words):
    folder = shutil.copytree(sharded("llava"), tmp_path / "folder")
    for file in folder.glob("*.safetensors*"):
        if name.endswith("no-weights") or (name.endswith("no-shard") and file.suffix == ".safetensors"):
            file.unlink()
    if name.endswith("no-config"):
        (folder / "config.json").unlink()
    if "/no-" in name:
        hub.add(name, folder)
    code, said = represent(online, pool, name, tmp_path / "run")
    assert (code, (tmp_path / "run").exists()) == (2, False), said
    assert words in said


def test_offline_without_files(hub, online, offline, checkpoints, pool, tmp_path):
    hub.add("owner/elsewhere", checkpoints("llava"))
    code, said = represent(offline, pool, "owner/elsewhere", tmp_path / "run")
    assert code == 2
    assert "owner/elsewhere (its files are not all in the cache, and HF_HUB_OFFLINE is set)" in said


def test_offline_without_the_files_of_a_layer(hub, online, offline, sharded, pool, tmp_path):
    hub.add("owner/first-layer", sharded("llava"))
    assert represent(online, pool, "owner/first-layer", tmp_path / "first")[0] == 0
    code, said = represent(offline, pool, "owner/first-layer", tmp_path / "second", "--layer", "1")
    assert (code, (tmp_path / "second").exists()) == (2, False)
    assert re.search(r"model weights (cannot be downloaded|are incomplete in the cache): owner/first-layer", said)
    assert represent(online, pool, "owner/first-layer", tmp_path / "second", "--layer", "1")[0] == 0


@pytest.mark.parametrize("method", ["fp8", "gptq"])
def test_a_quantised_checkpoint_is_refused_before_weights_are_downloaded(hub, online, sharded, pool, tmp_path, method):
    folder = shutil.copytree(sharded("llava"), tmp_path / "quantised")
    facts = json.loads((folder / "config.json").read_text())
    facts["quantization_config"] = {"quant_method": method, "bits": 4}
    (folder / "config.json").write_text(json.dumps(facts))
    repository = hub.add(f"owner/{method}", folder)
    code, said = represent(online, pool, f"owner/{method}", tmp_path / "run")
    assert code == 2
    assert f"the checkpoint is quantised ({method}): give the unquantised one" in said
    assert weights(repository) == set()

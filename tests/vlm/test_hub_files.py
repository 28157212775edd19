import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as load_vectors
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from hub import TOKEN, Hub, Worker
from small_pools import write_pool

SHARDED = ["llava", "qwen2_5_vl", "qwen3_vl"]


@pytest.fixture(scope="module")
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub_home")


@pytest.fixture(scope="module")
def online(hub, home):
    worker = Worker(hub.address, home)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def offline(hub, home):
    worker = Worker(hub.address, home, offline=True)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def sharded(checkpoints, tmp_path_factory):
    """Return a function family -> folder of its tiny checkpoint in many files of weights."""
    root, built = tmp_path_factory.mktemp("sharded"), {}

    def build(family):
        if family not in built:
            folder = shutil.copytree(checkpoints(family), root / family)
            (folder / "model.safetensors").unlink()
            model = AutoModelForImageTextToText.from_pretrained(checkpoints(family))
            model.save_pretrained(folder, max_shard_size="30KB")
            assert (folder / "model.safetensors.index.json").is_file()
            built[family] = folder
        return built[family]

    return build


@pytest.fixture(scope="module")
def pool(pictures, tmp_path_factory):
    return write_pool(tmp_path_factory.mktemp("pool"), pictures, rows=4)


def represent(worker, pool, model, output, *words, **environment):
    return worker.run("represent", pool, "--model", model, "--output", output, *words, **environment)


def vectors(run):
    return load_vectors(run / "representations" / "shard-0000000.safetensors")["representations"]


def shards_with(folder, *fragments):
    """Return the files of weights in which a name with one of the fragments stands."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return {file for name, file in index.items() if any(fragment in name for fragment in fragments)}


@pytest.mark.parametrize("family", SHARDED)
def test_only_files_with_needed_tensors_are_downloaded(family, hub, online, offline, sharded, pool, tmp_path):
    folder = sharded(family)
    repository = hub.add(f"owner/{family}", folder)
    code, said = represent(online, pool, f"owner/{family}", tmp_path / "from-hub")
    assert code == 0, said
    weights = {file for file in repository.downloaded() if file.endswith(".safetensors")}
    every = {path.name for path in folder.glob("*.safetensors")}
    later = {f"layers.{layer}." for layer in (1, 2)}
    first = {name.rpartition("layers.0.")[2] for name in shards_with(folder, "language_model")}
    assert first
    assert shards_with(folder, "embed_tokens", "language_model.layers.0.", "language_model.model.layers.0.") <= weights
    unneeded = {
        file
        for file in every
        if all(
            "lm_head" in name or ("language_model" in name and any(layer in name for layer in later))
            for name in safe_open(folder / file, "pt").keys()
        )
    }
    assert unneeded, "the checkpoint has no file that could be left out"
    assert not weights & unneeded
    assert ("HEAD", next(iter(unneeded))) not in repository.requests
    assert represent(online, pool, folder, tmp_path / "from-folder")[0] == 0
    assert np.array_equal(vectors(tmp_path / "from-hub"), vectors(tmp_path / "from-folder"))
    recorded = json.loads((tmp_path / "from-hub" / "run.json").read_text())
    assert recorded["model_commit"] == repository.names["main"]
    assert json.loads((tmp_path / "from-folder" / "run.json").read_text())["model_commit"] is None
    repository.requests.clear()
    assert represent(online, pool, f"owner/{family}", tmp_path / "again")[0] == 0
    assert repository.downloaded() == set()
    repository.requests.clear()
    code, said = represent(offline, pool, f"owner/{family}", tmp_path / "offline")
    assert code == 0, said
    assert not repository.requests
    assert np.array_equal(vectors(tmp_path / "offline"), vectors(tmp_path / "from-folder"))

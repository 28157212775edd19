"""For tests of models: checkpoints in many files, and a small pool."""

import shutil

import pytest


@pytest.fixture(scope="session")
def sharded(checkpoints, built_once):
    """Return a function family -> folder of its tiny checkpoint in many files of weights."""
    from transformers import AutoModelForImageTextToText

    def build(folder):
        shutil.copytree(checkpoints(folder.name), folder)
        (folder / "model.safetensors").unlink()
        model = AutoModelForImageTextToText.from_pretrained(checkpoints(folder.name))
        model.save_pretrained(folder, max_shard_size="30KB")

    return lambda family: built_once(f"sharded/{family}", build)


@pytest.fixture(scope="session")
def pool(pictures, tmp_path_factory):
    from small_pools import write_pool

    return write_pool(tmp_path_factory.mktemp("pool"), pictures, rows=4)

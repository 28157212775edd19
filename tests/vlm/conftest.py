"""For tests of models that come from a hub: a hub, processes that talk to it, checkpoints in many files."""

import shutil

import pytest


@pytest.fixture(scope="session")
def hub():
    from hub import Hub

    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub_home")


@pytest.fixture(scope="session")
def online(hub, home):
    from hub import Worker

    worker = Worker(hub.address, home)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def offline(hub, home):
    from hub import Worker

    worker = Worker(hub.address, home, offline=True)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def sharded(checkpoints, tmp_path_factory):
    """Return a function family -> folder of its tiny checkpoint in many files of weights."""
    from transformers import AutoModelForImageTextToText

    root, built = tmp_path_factory.mktemp("sharded"), {}

    def build(family):
        if family not in built:
            folder = shutil.copytree(checkpoints(family), root / family)
            (folder / "model.safetensors").unlink()
            model = AutoModelForImageTextToText.from_pretrained(checkpoints(family))
            model.save_pretrained(folder, max_shard_size="30KB")
            built[family] = folder
        return built[family]

    return build


@pytest.fixture(scope="session")
def pool(pictures, tmp_path_factory):
    from small_pools import write_pool

    return write_pool(tmp_path_factory.mktemp("pool"), pictures, rows=4)

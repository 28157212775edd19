"""Shared by all tests: tiny checkpoints and pictures, built once a run, also where several processes run the tests."""

from __future__ import annotations

import logging
import os
import shutil

# Two busy-waiting threads on tiny models make each other slow; asleep they do not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from filelock import FileLock
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory):
    """Return a function (name, build) -> folder `name`, which `build(folder)` filled once for all processes of the run.

    Nobody may change what lies there.
    """
    several = "PYTEST_XDIST_WORKER" in os.environ
    root = (tmp_path_factory.getbasetemp().parent if several else tmp_path_factory.getbasetemp()) / "built"

    def folder_of(name, build):
        folder, mark = root / name, root / f"{name}.whole"
        mark.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not mark.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed on the way
                build(folder)
                mark.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def checkpoints(built_once):
    """Return a function (family, size="small") -> folder of a tiny random checkpoint."""
    from tiny_vlms import build_checkpoint

    def checkpoint(family, size="small"):
        return built_once(f"checkpoints/{family}-{size}", lambda folder: build_checkpoint(family, folder, size=size))

    return checkpoint


@pytest.fixture(scope="session")
def object_store():
    """Start an S3 server on this machine and return its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(object_store, monkeypatch):
    """Return the URL of a new bucket; this process and those it starts can reach it until the test ends."""
    from object_store import access_for, new_bucket

    for name, value in access_for(object_store).items():
        monkeypatch.setenv(name, value)
    return new_bucket()


@pytest.fixture(scope="session")
def hub():
    """Start a hub on this machine."""
    from hub import Hub

    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Return the folder where the processes below keep what they download."""
    return tmp_path_factory.mktemp("hub_home")


@pytest.fixture(scope="session")
def online(hub, home):
    """Start a process that runs command lines against the hub: imports take seconds, so all tests share it."""
    from hub import Worker

    worker = Worker(hub.address, home)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def offline(hub, home):
    """Start a process that may use what was downloaded, and no more."""
    from hub import Worker

    worker = Worker(hub.address, home, offline=True)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def pictures(built_once):
    """Return the paths of six structured pictures of different sizes."""
    from tiny_vlms import make_pictures

    return sorted(built_once("pictures", lambda folder: make_pictures(folder, 6, 0)).iterdir())


@pytest.fixture(scope="session")
def loaded(checkpoints):
    """Return a function (family, size, **options) -> a loaded `Checkpoint`, cached."""
    from scalselect.config import RepresentConfig
    from scalselect.vlm.checkpoint import load_checkpoint
    from scalselect.vlm.settings import resolve_settings

    cache = {}

    def load(family, size="small", **options):
        config = RepresentConfig(**options)
        key = family, size, config
        if key not in cache:
            path = checkpoints(family, size)
            cache[key] = load_checkpoint(path, config, resolve_settings(config, path, None))
        return cache[key]

    return load


@pytest.fixture(scope="session")
def _kept():
    return {}


@pytest.fixture
def shared_models_kept(_kept, monkeypatch):
    """Let commands load a checkpoint of `checkpoints` once: for tests of whole runs whose subject is not the model."""
    from kept_models import keep_shared

    keep_shared(monkeypatch, _kept)

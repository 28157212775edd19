"""Shared by all tests: tiny checkpoints and pictures, built once a run."""

from __future__ import annotations

import logging
import os

# Two busy-waiting threads on tiny models make each other slow; asleep they do not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Return a function (family, size="small") -> folder of a tiny random checkpoint."""
    from tiny_vlms import build_checkpoint

    root = tmp_path_factory.mktemp("checkpoints")
    built = {}

    def checkpoint(family, size="small"):
        if (family, size) not in built:
            built[family, size] = build_checkpoint(family, root / f"{family}-{size}", size=size)
        return built[family, size]

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
def pictures(tmp_path_factory):
    """Return the paths of six structured pictures of different sizes."""
    from tiny_vlms import make_pictures

    return make_pictures(tmp_path_factory.mktemp("pictures"), 6, 0)


@pytest.fixture(scope="session")
def loaded(checkpoints):
    """Return a function (family, size, **options) -> a loaded `Checkpoint`, cached."""
    from scalselect.config import RepresentConfig
    from scalselect.vlm.checkpoint import load_checkpoint
    from scalselect.vlm.settings import resolve_settings

    cache = {}

    def load(family, size="small", **options):
        key = (family, size, tuple(sorted(options.items())))
        if key not in cache:
            config = RepresentConfig(**options)
            path = checkpoints(family, size)
            cache[key] = load_checkpoint(path, config, resolve_settings(config, path, None))
        return cache[key]

    return load

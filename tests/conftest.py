"""Shared by all tests: tiny checkpoints and pictures, built once a run."""

from __future__ import annotations

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

"""Models loaded once for several commands: loading writes nothing, and takes as long as a small run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scalselect import shard_worker


def keep_loaded(monkeypatch):
    """Load each model once for all the commands that follow, for each set of resolved options."""
    load, kept = shard_worker.load_checkpoint, {}

    def once(located, config, settings, *, processor):
        key = (str(located), settings, config.max_length)
        if key not in kept:
            kept[key] = load(located, config, settings, processor=processor)
        return kept[key]

    monkeypatch.setattr(shard_worker, "load_checkpoint", once)


def keep_shared(monkeypatch, kept):
    """Load and rehearse each checkpoint that all tests share once for each set of options, `kept` holding them.

    Checkpoints of a test's own, which it may change, are loaded every time.
    """
    load, rehearse = shard_worker.load_checkpoint, shard_worker.rehearse

    def load_once(located, config, settings, *, processor):
        place = Path(located) if isinstance(located, str | Path) else None
        if place is None or not place.with_name(f"{place.name}.whole").exists():  # see `built_once` in conftest.py
            return load(located, config, settings, processor=processor)
        key = (place, replace(config, images=None), settings)
        if key not in kept:
            kept[key] = load(located, config, settings, processor=processor)
        return kept[key]

    def rehearse_once(checkpoint, config):
        key = (id(checkpoint), replace(config, images=None))
        if not any(checkpoint is one for one in kept.values()):
            return rehearse(checkpoint, config)
        if key not in kept:
            kept[key] = rehearse(checkpoint, config)
        return kept[key]

    monkeypatch.setattr(shard_worker, "load_checkpoint", load_once)
    monkeypatch.setattr(shard_worker, "rehearse", rehearse_once)

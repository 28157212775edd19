"""Models loaded once for several commands: loading writes nothing, and takes as long as a small run."""

from __future__ import annotations

from scalselect import represent_work


def keep_loaded(monkeypatch):
    """Load each model once for all the commands that follow, for each set of resolved options."""
    load, kept = represent_work.load_checkpoint, {}

    def once(located, config, settings, *, processor):
        key = (str(located), settings, config.max_length)
        if key not in kept:
            kept[key] = load(located, config, settings, processor=processor)
        return kept[key]

    monkeypatch.setattr(represent_work, "load_checkpoint", once)

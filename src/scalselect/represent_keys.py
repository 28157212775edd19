"""What run.json says of stage 1: the keys that every later call must have, and what stands beside them."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.config import NOT_KEYS
from scalselect.segments import entries_of
from scalselect.vlm.settings import library_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.config import RepresentConfig, RunConfig
    from scalselect.dataset.pool import Pool
    from scalselect.segments import Segment
    from scalselect.vlm.settings import Settings

NUMERICS_VERSION = 2  # raised whenever the same inputs would give other vectors


def option_keys(config: RepresentConfig, settings: Settings) -> dict[str, Any]:
    """Return the `represent` keys of run.json that options, machine and versions decide."""
    options = asdict(config)
    for name in ("format", "dataset_info", "chat_template", "batch_size", "device", *NOT_KEYS):
        del options[name]  # resolved elsewhere, or without a say in any vector
    return {
        **options,
        "image_fit": settings.image_fit,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "max_rows": settings.max_rows,
        "batch_tokens": settings.batch_tokens,
        "numerics_version": NUMERICS_VERSION,
        "transformers": ".".join(metadata.version("transformers").split(".")[:2]),
    }


def data_keys(pools: Sequence[Pool], segments: Sequence[Segment]) -> dict[str, Any]:
    """Return the `represent` keys of run.json that the data decide: of several data sets each one's own as well."""
    first = asdict(segments[0])
    names = ("images", "rows", "mapping", "data_format", "data_sha256", "data_bytes", "data_records")
    left_out = sum(pool.total_records - len(pool) for pool in pools)
    keys = {name: first[name] for name in names}
    keys["limit"] = segments[-1].stop_row if left_out else None
    if len(segments) > 1:
        keys["data_sets"] = [
            {name: value for name, value in asdict(segment).items() if name in {*names, "source"}}
            for segment in segments
        ]
    return keys


def new_run_json(segments: Sequence[Segment], model: Any, config: RunConfig, keys: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the run.json of a new run."""
    return {
        **({"segments": entries_of(list(segments))} if len(segments) > 1 else {}),
        "represent": keys,
        "score": None,
        "select": None,
        "data": {"path": segments[0].path, "source": segments[0].source},
        "model": _name_of(model),
        "chat_template": config.represent.chat_template,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {"scalselect": metadata.version("scalselect"), **library_versions()},
    }


def commit_of(recorded: dict[str, Any] | None, model: Any, config: RepresentConfig) -> str | None:
    """Return the commit of a hub's repository that a run began with: it may have gone on since."""
    if (
        recorded is None
        or recorded["model"] != _name_of(model)
        or recorded["represent"].get("revision") != config.revision
    ):
        return None
    commit: str | None = recorded.get("model_commit")
    return commit


def _name_of(model: Any) -> str:
    """Return how run.json names a model: a folder from the root on, for `extend` may be called in another one."""
    if not isinstance(model, (str, Path)):
        return type(model).__name__
    return str(Path(model).absolute()) if Path(model).is_dir() else str(model)

"""Which files of a sharded checkpoint a truncated model reads, known from the index of tensor names alone.

Names in files are not those of the model: transformers renames and converts them while it loads. Its own rules are
asked here. Where they do not account for every parameter, every file is needed: never too little.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from scalselect.errors import ModelError
from scalselect.vlm.remote_code import automatic_class
from scalselect.vlm.truncation import names_without_head

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def index_of(file: Path) -> dict[str, Any]:
    """Return the content of an index of weights, its `weight_map` checked: tensor name to file. Raises ModelError."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        names = {str(name): str(shard) for name, shard in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"index of weights cannot be read: {file} ({type(error).__name__}: {error})") from error
    for shard in names.values():
        place = PurePosixPath(shard)
        if place.is_absolute() or not place.name or ".." in place.parts or "\\" in shard:
            raise ModelError(f"index of weights names a file outside the checkpoint's folder: {file} ({shard!r})")
    return {**content, "weight_map": names}


def files_of_tensors(config: Any, weight_map: Mapping[str, str], *, trusted: bool) -> set[str]:
    """Return the files that hold a tensor of the model that a configuration describes.

    Parameters
    ----------
    config
        The truncated configuration.
    weight_map
        Tensor name in the files to file.
    trusted
        Whether code of the checkpoint may be run.

    Raises
    ------
    ModelError
        If the checkpoint's code names no model class.
    """
    kind = automatic_class(config)
    try:
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=trusted)
        stored = {_renamed(name, names_without_head(config) or {}): name for name in weight_map}
        if len(stored) < len(weight_map):  # two names become one: which of them is read is not known here
            return set(weight_map.values())
        needed = [stored[name] for name in _needed_names(model, list(stored))]
    except Exception:  # noqa: BLE001  rules of another version, or a model that cannot be built without numbers
        return set(weight_map.values())
    return {weight_map[name] for name in needed}


def _renamed(name: str, rules: dict[str, str]) -> str:
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def _needed_names(model: Any, stored: list[str]) -> list[str]:
    """Return the stored names that end in a parameter or buffer of `model`; all where one of these has none."""
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    wanted = model.state_dict()
    targets = {source: rule.target_patterns for rule in converters for source in rule.source_patterns}
    needed: list[str] = []
    reached: set[str] = set()
    for name in stored:
        if name in wanted:  # whatever the rules say: never too little
            needed.append(name)
            reached.add(name)
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        ends = {renamed}
        if pattern is not None:  # a tensor that is cut into several
            ends |= {renamed.replace(targets[pattern][0], target) for target in targets[pattern]}
        bare, _ = rename_source_key(name, [], [], model.base_model_prefix, wanted)
        if ends & wanted.keys() or bare in wanted:
            needed.append(name)
            reached |= ends | {bare}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    return needed if wanted.keys() - reached - tied == set() else stored

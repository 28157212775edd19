"""What the files of a checkpoint would have fetched or read from elsewhere: refused, for nobody asked for it.

Code of its own is another matter; see `remote_code`.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Where a repository stands for the name of an implementation, transformers downloads compiled code and runs it.
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def refuse_what_lies_elsewhere(folder: Path, name: str) -> None:
    """Raise ModelError where loading a checkpoint would reach beyond its folder.

    Parameters
    ----------
    folder
        Where its configuration lies.
    name
        How the user named the checkpoint.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"model folder holds an adapter, which may name a base model elsewhere: {name} (adapter_config.json); "
            "merge it into its base model and give the result, or take the file out of the folder"
        )
    for key, value in _entries(_content(folder / "config.json")):
        if key.removeprefix("_").removesuffix("_internal") in _IMPLEMENTATIONS:
            for word in value.values() if isinstance(value, dict) else [value]:
                if isinstance(word, str) and "/" in word:
                    raise ModelError(
                        f"model wants compiled code of a repository, which is not fetched: {name} (config.json has "
                        f"{word!r} as `{key}`); take the entry out of config.json"
                    )
    for index in _INDEXES:
        weight_map = _content(folder / index).get("weight_map")
        for file in weight_map.values() if isinstance(weight_map, dict) else ():
            if isinstance(file, str) and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
                raise ModelError(f"model names a file of weights outside of its folder: {name} ({index} has {file!r})")


def _content(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; none where it cannot be read, which is told by whoever loads it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()

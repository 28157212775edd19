"""Python code that a checkpoint brings with it: refused unless the user trusts it, and told where it was run."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, AutoModelForImageTextToText

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = "transformers_modules"  # where transformers imports such code from

# File that may declare code, and for each kind of it the field that names a class of transformers instead.
_FILES = (
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)
_CLASS_FIELDS = {
    "AutoConfig": "model_type",
    "AutoProcessor": "processor_class",
    "AutoImageProcessor": "image_processor_type",
    "AutoVideoProcessor": "video_processor_type",
    "AutoTokenizer": "tokenizer_class",
}


def refuse_untrusted_code(folder: Path, name: str, *, trusted: bool) -> None:
    """Raise ModelError where a checkpoint cannot be loaded without running code of its own and that is not trusted.

    Parameters
    ----------
    folder
        Where its configuration lies.
    name
        How the user named the checkpoint.
    """
    if trusted:
        return
    for file in _FILES:
        for declared in _declarations(folder / file):
            for kind, field in _CLASS_FIELDS.items():
                if kind in declared["auto_map"] and not _is_known(declared.get(field), kind):
                    raise ModelError(
                        f"model needs Python code of its own, which is not run unasked: {name} ({file} names "
                        f"{declared['auto_map'][kind]} as its {kind}); --trust-remote-code of `run` and `represent` "
                        "runs it, with all rights of the process: read it first; or give a checkpoint that "
                        "transformers knows by itself"
                    )


def automatic_class(config: Any) -> Any:
    """Return the class of transformers that builds the model of a configuration, best without a head.

    Raises
    ------
    ModelError
        If the checkpoint's code does not say how.
    """
    declared = getattr(config, "auto_map", None) or {}
    if type(config) in MODEL_MAPPING or AutoModel.__name__ in declared:
        return AutoModel
    if AutoModelForImageTextToText.__name__ in declared:
        return AutoModelForImageTextToText
    raise ModelError(
        "the checkpoint's configuration names no model class: its auto_map has neither AutoModel nor "
        "AutoModelForImageTextToText"
    )


def is_own_code(thing: Any) -> bool:
    """Tell whether the class of an object came with a checkpoint."""
    return type(thing).__module__.split(".", 1)[0] == _PACKAGE


def own_code(config: Any, processor: Any, model: Any) -> tuple[list[str], str]:
    """Return the names of the classes that came with the checkpoint, and the hash of the code they are part of.

    Both are empty where all classes are those of installed packages.
    """
    parts = [config, model, processor, *vars(processor).values()]
    classes = {type(part) for part in parts if is_own_code(part)}
    if not classes:
        return [], ""
    packages = {kind.__module__.rpartition(".")[0] for kind in classes}
    sources = {
        name.rpartition(".")[2]: Path(module.__file__).read_bytes()
        for name, module in list(sys.modules.items())
        if name.rpartition(".")[0] in packages and module.__file__
    }
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return sorted(kind.__name__ for kind in classes), digest.hexdigest()


def _declarations(file: Path) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON file that declares code: the file's own, and those of its parts."""
    if not file.is_file():
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # told, in words, by whoever loads it
        return
    if not isinstance(content, dict):
        return
    for declared in (content, *content.values()):
        if isinstance(declared, dict) and declared.get("auto_map"):
            auto_map = declared["auto_map"]
            # Older tokenizers name their classes without a kind.
            yield {**declared, "auto_map": auto_map if isinstance(auto_map, dict) else {"AutoTokenizer": auto_map}}


def _is_known(declared: object, kind: str) -> bool:
    if not isinstance(declared, str):
        return False
    return declared in CONFIG_MAPPING if kind == "AutoConfig" else hasattr(transformers, declared)

"""`explanations.safetensors`: for some rows, how the instruction attends to the image, token by token.

Written after scoring, for the rows that a report shows. It holds for as long as the representations do, whatever is
scored or chosen anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from scalselect.errors import RunFolderError
from scalselect.representation_store import METADATA_KEY
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanation:
    """What the representation of one row was made from.

    Attributes
    ----------
    row
        Pool position.
    attention
        Share of the instruction's attention that each vision token holds, summing to 1, float32 [vision].
    kept
        Which of them were averaged, bool [vision].
    image
        Which image of the sample each token shows, from 0; -1 where it is not known, int32 [vision].
    boxes
        What part of that image each token shows: left, top, right, bottom as shares of its width and height, which may
        reach beyond 0 and 1 where the picture was padded; NaN where it is not known, float32 [vision, 4].
    """

    row: int
    attention: NDArray[np.float32]
    kept: NDArray[np.bool_]
    image: NDArray[np.int32]
    boxes: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanations:
    """The explanations of a run.

    Attributes
    ----------
    rows
        By pool position.
    missing
        Rows that were looked at in vain, and why, in words.
    boxes_unknown
        Why the places of tokens in the picture are not known, in words; None where they are.
    """

    rows: Mapping[int, Explanation]
    missing: Mapping[int, str]
    boxes_unknown: str | None


def write_explanations(path: Path, explanations: Explanations, inputs: Mapping[str, Any]) -> None:
    """Publish the file; `inputs` tell what it was made from: `store`, the digest of the representations, above all."""
    publish_bytes(path, _encoded(explanations, inputs))


def _encoded(explanations: Explanations, inputs: Mapping[str, Any]) -> bytes:
    some = [explanations.rows[row] for row in sorted(explanations.rows)]
    tensors = {
        "rows": np.array([each.row for each in some], dtype=np.int64),  # [rows]
        "offsets": np.cumsum([0, *(len(each.attention) for each in some)]).astype(np.int64),  # [rows + 1]
        "attention": _joined([each.attention for each in some], np.float32),  # [tokens]
        "kept": _joined([each.kept for each in some], np.bool_),  # [tokens]
        "image": _joined([each.image for each in some], np.int32),  # [tokens]
        "boxes": _joined([each.boxes.reshape(-1) for each in some], np.float32).reshape(-1, 4),  # [tokens, 4]
    }
    facts = {
        "inputs": dict(inputs),
        "missing": {str(row): explanations.missing[row] for row in sorted(explanations.missing)},
        "boxes_unknown": explanations.boxes_unknown,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    facts["sha256"] = digest.hexdigest()
    content: bytes = save(tensors, metadata={METADATA_KEY: json.dumps(facts, sort_keys=True)})
    return content


def read_explanations(path: Path) -> tuple[Explanations, dict[str, Any]]:
    """Return the explanations of a file and what they were made from.

    Raises
    ------
    FileNotFoundError
        There is none.
    RunFolderError
        The file is not what was written, be it by a single bit.
    """
    content = path.read_bytes()
    try:
        explanations, inputs = _decoded(content)
        whole = _encoded(explanations, inputs) == content
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        whole = False
    if not whole:
        raise RunFolderError(f"{path.name} is not what was written: {path}; remove it, and `run` makes it anew")
    return explanations, inputs


def _decoded(content: bytes) -> tuple[Explanations, dict[str, Any]]:
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA_KEY])
    tensors = load(content)
    parts = {
        name: np.split(tensors[name], tensors["offsets"][1:-1]) for name in ("attention", "kept", "image", "boxes")
    }
    rows = {
        int(row): Explanation(row=int(row), **{name: parts[name][place] for name in parts})
        for place, row in enumerate(tensors["rows"])
    }
    missing = dict(sorted((int(row), str(why)) for row, why in facts["missing"].items()))
    return Explanations(rows=rows, missing=missing, boxes_unknown=facts["boxes_unknown"]), facts["inputs"]


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *arrays]).astype(dtype, copy=False)

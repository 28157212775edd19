"""A subset as TRL reads it, until the command line has an export of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value

from integrations.expected import MARKER, ROLES

if TYPE_CHECKING:
    from integrations.subsets import Subset

FEATURES = Features(
    {
        "id": Value("string"),
        "messages": List(
            {"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}
        ),
        "images": List(Image()),
    }
)


def write_trl(subset: Subset, path: Path) -> Path:
    """Write a subset in Parquet, its markers as content blocks, its pictures as an Image column."""
    rows = []
    for record in subset.records:
        turns = record.get("conversations", record.get("messages"))
        named = record.get("images", record.get("image")) or []
        rows.append(
            {
                "id": record["id"],
                "messages": [_message(turn) for turn in turns],
                "images": [str(subset.images / name) for name in (named if isinstance(named, list) else [named])],
            }
        )
    Dataset.from_list(rows, features=FEATURES).to_parquet(path)
    return path


def _message(turn: dict[str, str]) -> dict[str, Any]:
    role, text = turn.get("from", turn.get("role", "")), turn.get("value", turn.get("content", ""))
    first, *others = [piece.strip() for piece in text.split(MARKER)]
    blocks = [{"type": "text", "text": first}] if first else []
    for piece in others:
        blocks.append({"type": "image", "text": None})
        blocks += [{"type": "text", "text": piece}] if piece else []
    return {"role": ROLES.get(role, role), "content": blocks}


def exported_file(code: str) -> Path:
    """Return the file that code of `how_to_train.md` loads."""
    (path,) = re.findall(r'data_files="([^"]+)"', code)
    return Path(path)


def write_faulty_trl(path: Path, fault: str, target: Path) -> Path:
    """Write a copy of a file for TRL with one known fault in its second row, and return it.

    `marker in the text`: the text keeps its `<image>` beside the block that stands for it. `another picture`: the row
    has the pictures of another.
    """
    table = pq.read_table(path)
    rows = table.to_pylist()
    if fault == "marker in the text":
        turn = next(turn for turn in rows[1]["messages"] if turn["role"] == "user")
        block = next(block for block in turn["content"] if block["type"] == "text")
        block["text"] = f"{MARKER}\n{block['text']}"
    elif fault == "another picture":
        rows[1]["images"] = next(
            row["images"]
            for row in rows
            if row["images"] != rows[1]["images"] and len(row["images"]) == len(rows[1]["images"])
        )
    else:
        raise ValueError(f"unknown fault: {fault!r}")
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), target)
    return target

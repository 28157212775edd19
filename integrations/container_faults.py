"""Copies of files that are no JSON with one known fault: what TRL is given, and tars."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from integrations.expected import MARKER


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


def write_members_apart(path: Path, target: Path) -> Path:
    """Write a copy of a tar in which the last member of the second sample stands at the end, and return it."""
    with tarfile.open(path) as source, tarfile.open(target, "w") as written:
        members = source.getmembers()
        keys = list(dict.fromkeys(member.name.split(".", 1)[0] for member in members))
        moved = next(member for member in reversed(members) if member.name.split(".", 1)[0] == keys[1])
        for member in [*(member for member in members if member is not moved), moved]:
            written.addfile(member, source.extractfile(member))
    return target

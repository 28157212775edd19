"""Small subset files in two formats, as a run writes them, for tests of what trainers make of them."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from integrations.subsets import Subset


def small_subsets(folder):
    """Return a subset in LLaVA format and one of messages, of six rows, the fourth without a picture."""
    (folder / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"images/{number}.png")
    llava, messages = [], []
    for row in range(6):
        name, text = f"images/{row % 3}.png", f"question {row}"
        shown = row != 3
        question = f"<image>\n{text}" if shown else text
        turns = [("human", question), ("gpt", "yes")]
        record = {"id": f"row-{row}", "conversations": [{"from": role, "value": value} for role, value in turns]}
        llava.append(record | ({"image": name} if shown else {}))
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
        messages.append({"id": f"row-{row}", "messages": turns} | ({"images": [name]} if shown else {}))
    (folder / "selected.json").write_text(json.dumps(llava))
    (folder / "selected.jsonl").write_text("".join(json.dumps(record) + "\n" for record in messages))
    paths = {"llava": folder / "selected.json", "messages": folder / "selected.jsonl"}
    return {name: Subset.read(path, folder) for name, path in paths.items()}


def write_exported(subset, path):
    """Write messages as TRL is given them: markers at the beginning as blocks, pictures with their bytes."""
    rows = []
    for record in subset.records:
        images = [{"bytes": (subset.images / name).read_bytes()} for name in record.get("images", [])]
        turns = []
        for turn in record["messages"]:
            blocks = [{"type": "image", "text": None}] if "<image>" in turn["content"] else []
            blocks.append({"type": "text", "text": turn["content"].removeprefix("<image>\n")})
            turns.append({"role": turn["role"], "content": blocks})
        rows.append({"id": record["id"], "messages": turns, "images": images})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_tar(subset, path):
    """Write messages as samples of a tar, each a `.json` member and its pictures."""
    with tarfile.open(path, "w") as tar:
        for record in subset.records:
            members = {"json": json.dumps(record).encode()}
            for number, name in enumerate(record.get("images", [])):
                members[f"{number}.png"] = (subset.images / name).read_bytes()
            for field, content in members.items():
                member = tarfile.TarInfo(f"{record['id']}.{field}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return path

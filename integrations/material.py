"""Pools of real pictures and questions in the containers people have, and the subsets that a run chooses from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import webdataset
from datasets import Dataset, Features, Image, List, Value

from build_demo import build_demo

Record = dict[str, Any]

ROWS = 150
BUDGET = 20
ROLES = {"human": "user", "gpt": "assistant"}
SYSTEM = "Answer in one word."


POOLS = {  # name of the subset: what lies in the folder of the material
    "llava": "pool.json",
    "messages": "messages.jsonl",
    "parquet": "messages.parquet",
    "saved": "messages",
    "tar": "messages.tar",
}
MESSAGES = Features(
    {
        "id": Value("string"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "images": List(Image()),
    }
)


def build_material(folder: Path) -> Path:
    """Write the demo (pool in LLaVA format, pictures, checkpoint), and the same pool as messages in every container.

    Tables and tars are written by the packages `datasets` and `webdataset`, and hold the bytes of the pictures.
    """
    build_demo(folder, ROWS)
    records = messages_records(json.loads((folder / "pool.json").read_bytes()))
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "messages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [{**record, "images": [_bytes_of(folder, name) for name in record.get("images", [])]} for record in records]
    table = Dataset.from_list(rows, features=MESSAGES)
    table.to_parquet(folder / "messages.parquet")
    table.save_to_disk(folder / "messages")
    with webdataset.TarWriter(str(folder / "messages.tar")) as writer:
        for row in rows:
            pictures = {f"{number}.png": image["bytes"] for number, image in enumerate(row["images"])}
            writer.write({"__key__": row["id"], "json": {**row, "images": list(pictures)}, **pictures})
    return folder


def _bytes_of(folder: Path, name: str) -> dict[str, Any]:
    return {"bytes": (folder / name).read_bytes(), "path": Path(name).name}


def messages_records(pool: list[Record]) -> list[Record]:
    """Return LLaVA records as messages: some with a system turn, some with a second picture, in their last question.

    The bad rows of the demo are left out, and one row in 20 loses its picture.
    """
    whole = [record for record in pool if not record["id"].startswith("odd-") or record["id"] == "odd-text-only"]
    images = [record["image"] for record in whole if "image" in record]
    records = []
    for number, record in enumerate(whole):
        turns = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in record["conversations"]]
        named = [record["image"]] if "image" in record and number % 20 else []
        if not named:
            turns[0]["content"] = turns[0]["content"].removeprefix("<image>\n")
        elif number % 6 == 2:  # noqa: PLR2004  one in six
            turns[-2]["content"] += " And in <image>?"
            named.append(images[(number + 9) % len(images)])
        if number % 5 == 1:
            turns.insert(0, {"role": "system", "content": SYSTEM})
        records.append({"id": record["id"], "messages": turns} | ({"images": named} if named else {}))
    return records


def choose(pool: Path, model: Path, run_dir: Path, *options: str) -> Path:
    """Run `scalselect run` as a user does, and return the subset it wrote."""
    words = ["run", str(pool), "--model", str(model), "--budget", str(BUDGET), "--output", str(run_dir)]
    scalselect(*words, "--text-only", "keep", *options)
    (subset,) = run_dir.glob("selected*")
    return subset


def scalselect(*words: str) -> None:
    """Run our command line, its output with the progress."""
    subprocess.run([sys.executable, "-m", "scalselect", *words], check=True, stdout=sys.stderr)

"""The reader of the package datasets: whole records out of JSON, JSON Lines, Parquet and saved folders."""

from __future__ import annotations

from typing import Any

from datasets import load_dataset, load_from_disk

from reporting import Result, pixels_of, report_each


def consume(entry: dict[str, Any]) -> Result:
    """Read `entry["file"]` and tell ids, turns as text, and the pictures that lie in the file."""
    if entry["loader"] == "saved":
        dataset = load_from_disk(entry["file"])
    else:
        dataset = load_dataset(entry["loader"], data_files=entry["file"], split="train")
    rows = list(dataset)
    return {
        "rows_in": len(rows),
        "rows_kept": len(rows),
        "ids": [row["id"] for row in rows],
        "texts": [" ".join(turns_of(row)) for row in rows],
        "images": [[pixels_of(image) for image in row["images"]] for row in rows] if entry["pictures_inside"] else None,
        "losses": [],
    }


def turns_of(row: dict[str, Any]) -> list[str]:
    """Return role and text of each turn, of LLaVA records and of messages."""
    if "conversations" in row:
        roles = {"human": "user", "gpt": "assistant"}
        return [f"{roles[turn['from']]}: {turn['value']}" for turn in row["conversations"]]
    return [f"{turn['role']}: {turn['content']}" for turn in row["messages"]]


if __name__ == "__main__":
    report_each("datasets", ("datasets", "pyarrow"), consume)

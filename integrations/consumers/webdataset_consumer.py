"""The reader of the package webdataset: one sample for each group of tar members."""

from __future__ import annotations

from typing import Any

import webdataset

from datasets_consumer import turns_of
from reporting import Result, pixels_of, report_each

PICTURES = ("png", "jpg", "webp")


def consume(entry: dict[str, Any]) -> Result:
    """Read the shards `entry["files"]` in order, JSON and pictures decoded by the package."""
    shards = webdataset.WebDataset(entry["files"], shardshuffle=False, empty_check=False).decode("pilrgb")
    ids, texts, images = [], [], []
    for sample in shards:
        record = sample.get("json", {"messages": []})  # the rest of a sample that was split has none
        ids.append(record.get("id"))
        texts.append(" ".join(turns_of(record)))
        fields = [name for name in sample if name.rsplit(".", 1)[-1] in PICTURES]
        images.append([pixels_of(sample[name]) for name in fields])
    return {"rows_in": None, "rows_kept": len(ids), "ids": ids, "texts": texts, "images": images, "losses": []}


if __name__ == "__main__":
    report_each("webdataset", ("webdataset",), consume)

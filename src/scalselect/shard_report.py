"""The completion report of a shard: what became of its rows, how long it took, and the hashes of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """The completion report of a shard.

    Attributes
    ----------
    start, stop
        Pool rows [start, stop) of the shard; in a run in image order, places [start, stop) in that order.
    counts
        Rows by status.
    reasons
        Skipped rows by reason.
    seconds
        Wall-clock seconds by stage.
    device
        Kind of device the model ran on.
    split_batches
        Batches that ran out of memory and were halved.
    reuse
        `images_computed` and `images_reused`: times that an image went through the vision tower, and did not need to;
        `prefixes_reused`: samples that were run only from where they part from another one.
    versions
        Versions of the libraries that computed it.
    files
        File name to size and sha256.
    """

    shard: int
    start: int
    stop: int
    counts: dict[str, int]
    reasons: dict[str, int]
    seconds: dict[str, float]
    device: str
    split_batches: int
    reuse: dict[str, int]
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]


def read_report(content: bytes) -> ShardReport:
    """Return the report that is written as JSON. Raises ValueError where it is none."""
    written = json.loads(content)
    try:
        return ShardReport(**{item.name: written[item.name] for item in fields(ShardReport)})
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error

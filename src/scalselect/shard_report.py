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
        Wall-clock seconds by stage. In the shard's process, one after another: `read` (records), `wait` (the model had
        no samples), `model`, `write` (arrays and rows). Within `wait`, or in processes beside the model: `decode`
        (opening images) and `preprocess`. Reports of older versions lack some of them.
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


_KINDS = {"int": int, "str": str, "dict": dict}
_VALUES: dict[str, type | tuple[type, ...]] = {
    "counts": int,
    "reasons": int,
    "seconds": (int, float),
    "reuse": int,
    "versions": str,
}


def read_report(content: bytes, shard: int) -> ShardReport:
    """Return the report of a shard that is written as JSON.

    Raises
    ------
    ValueError
        In words: it is no report, or that of another shard, or its numbers do not fit one another.
    """
    try:
        written = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(written, dict):
        raise ValueError("no report")  # noqa: TRY004  a file of another content, not a value of a wrong type
    for item in fields(ShardReport):
        _check_field(written, item.name, str(item.type))
    report = ShardReport(**{item.name: written[item.name] for item in fields(ShardReport)})
    if report.shard != shard:
        raise ValueError(f"it is the report of shard {report.shard}")
    if sum(report.counts.values()) != report.stop - report.start:
        told = f"rows {report.start} to {report.stop} and counts of {sum(report.counts.values())}"
        raise ValueError(f"its numbers do not fit one another: {told}")
    return report


def _check_field(written: dict[str, Any], name: str, type_name: str) -> None:
    if name not in written:
        raise ValueError(f"it has no `{name}`")
    value = written[name]
    fits = isinstance(value, _KINDS[type_name.partition("[")[0]]) and not isinstance(value, bool)
    if fits and name in _VALUES:
        fits = all(isinstance(each, _VALUES[name]) and not isinstance(each, bool) for each in value.values())
    if fits and name == "files":
        fits = all(
            isinstance(facts, dict) and isinstance(facts.get("bytes"), int) and isinstance(facts.get("sha256"), str)
            for facts in value.values()
        )
    if not fits:
        raise ValueError(f"its `{name}` cannot be right")

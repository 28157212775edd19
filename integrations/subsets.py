"""A written subset with its records read plainly, and copies of it that have one known fault."""

from __future__ import annotations

import json
import tarfile
from copy import deepcopy
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from integrations.expected import Conversation, Expected, collapsed, conversation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, Any]


@dataclass(frozen=True)
class Subset:
    """A subset as a run wrote it.

    Attributes
    ----------
    path
        The file, or the folder.
    images
        The folder its pictures are relative to.
    records
        What it holds.
    """

    path: Path
    images: Path
    records: list[Record]

    @classmethod
    def read(cls, path: Path, images: Path) -> Subset:
        """Read what a run wrote: a JSON array, JSON Lines, Parquet, a tar, or a folder of `save_to_disk`."""
        return cls(path, images, _READERS[path.suffix](path))

    def with_fault(self, fault: str, folder: Path) -> Subset:
        """Write a copy with one fault into `folder`, as JSON in the same container."""
        records = one_fault(self.records, fault)
        path = folder / f"{fault.replace(' ', '-')}{self.path.suffix}"
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        text = "[" + ",\n".join(lines) + "]\n" if self.path.suffix == ".json" else "\n".join(lines) + "\n"
        path.write_text(text, encoding="utf-8")
        return Subset(path, self.images, records)

    def expected(self, render: Callable[[Conversation], str]) -> list[Expected]:
        """Return what a consumer must report of the records."""
        conversations = [conversation(record, self.images) for record in self.records]
        return [Expected(one.id, collapsed(render(one)), one.images) for one in conversations]


def _read_array(path: Path) -> list[Record]:
    records: list[Record] = json.loads(path.read_bytes())
    return records


def _read_lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _read_saved(folder: Path) -> list[Record]:
    records = []
    for path in sorted(folder.glob("*.arrow")):
        records += pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist()
    return records


def _read_tar(path: Path) -> list[Record]:
    """Return the `.json` members, the bytes of the pictures beside each under `images`."""
    records: dict[str, Record] = {}
    pictures: dict[str, list[Record]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, field = member.name.split(".", 1)
            content = cast("IO[bytes]", tar.extractfile(member)).read()
            if field == "json":
                records[key] = json.loads(content)
            else:
                pictures.setdefault(key, []).append({"bytes": content})
    return [record | {"images": pictures.get(key, [])} for key, record in records.items()]


_READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".json": _read_array,
    ".jsonl": _read_lines,
    ".parquet": lambda path: pq.read_table(path).to_pylist(),
    ".tar": _read_tar,
    "": _read_saved,
}


def one_fault(records: list[Record], fault: str) -> list[Record]:
    """Return a copy of `records` in which the second, or the first after it that can have it, has one known fault.

    Parameters
    ----------
    records
        A subset, in LLaVA format or as messages.
    fault
        `no answer`: the last answer is gone. `missing picture`: the path of a picture names no file. `mixed ids`: the
        id of the first record is the number 1, that of the second the string "007".
    """
    broken = deepcopy(records)
    if fault == "no answer":
        broken[1].get("conversations", broken[1].get("messages")).pop()
    elif fault == "missing picture":
        record = next(record for record in broken[1:] if record.get("image") or record.get("images"))
        if "image" in record:
            record["image"] = "images/no-such-picture.png"
        else:
            record["images"][0] = "images/no-such-picture.png"
    elif fault == "mixed ids":
        broken[0]["id"], broken[1]["id"] = 1, "007"
    else:
        raise ValueError(f"unknown fault: {fault!r}")
    return broken

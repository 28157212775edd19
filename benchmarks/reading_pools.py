"""Pools of random records on disk, in the containers that the reading benchmark reads."""

from __future__ import annotations

import io
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIGHT_COLUMNS = ["id", "conversations"]
_WORDS, _LINES = 5_000, 2_000
_WORDS_OF_A_QUESTION, _WORDS_OF_AN_ANSWER = 30, 190  # about 1.7 kB a record, as in LLaVA's pool
_IMAGE_BYTES = 1_000
_ROW_GROUP = 100  # as `datasets` writes rows with images


def records(count: int, *, images: bool = True) -> Iterator[dict[str, Any]]:
    """Yield LLaVA records, with the path of an image or without, the same ones every time."""
    draw = random.Random(0)
    letters = "aabcdeeefghiijklmnnoopqrrsttuvwyzéß"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(_WORDS)] + ['"so"', "yes.\n", "日本"]
    questions = [" ".join(draw.choices(words, k=_WORDS_OF_A_QUESTION)) for _ in range(_LINES)]
    answers = [" ".join(draw.choices(words, k=_WORDS_OF_AN_ANSWER)) for _ in range(_LINES)]
    for number in range(count):
        answer = draw.choice(answers)
        turns = [
            {"from": "human", "value": f"<image>\n{draw.choice(questions)}"},
            {"from": "gpt", "value": answer[draw.randrange(len(answer) // 4) :]},
        ]
        image = {"image": f"coco/train2017/{number:012}.jpg"} if images else {}
        yield {"id": f"{number:012}", **image, "conversations": turns}


def write_array(path: Path, count: int) -> None:
    """Write a JSON array as `json.dump` does."""
    with path.open("w", encoding="utf-8") as stream:
        for number, record in enumerate(records(count)):
            stream.write("[" if number == 0 else ", ")
            stream.write(json.dumps(record))
        stream.write("]")


def write_lines(path: Path, count: int) -> None:
    """Write JSON Lines."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{json.dumps(record)}\n" for record in records(count))


def write_parquet(path: Path, count: int) -> None:
    """Write a Parquet file with a column of image bytes, laid out as HF `datasets` does."""
    draw = random.Random(1)
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("id", pa.string()), ("conversations", pa.list_(turn)), ("image", image)])
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for record in records(count, images=False):
            rows.append({**record, "image": {"bytes": draw.randbytes(_IMAGE_BYTES), "path": None}})
            if len(rows) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def write_tar(path: Path, count: int) -> None:
    """Write a WebDataset tar: a `.json` and a `.jpg` member a sample."""
    draw = random.Random(1)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for record in records(count, images=False):
            for field, content in (("json", json.dumps(record).encode()), ("jpg", draw.randbytes(_IMAGE_BYTES))):
                member = tarfile.TarInfo(f"{record['id']}.{field}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            tar.members.clear()


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "json": write_array,
    "jsonl": write_lines,
    "parquet": write_parquet,
    "tar": write_tar,
}

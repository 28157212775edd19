"""Data files of every container: good records with malformed ones among them, or the file itself damaged."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from malformed_records import FORMATS, MUTATIONS, good_record

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    Pictures = Sequence[Path]

CONTAINERS = ("json", "jsonl", "json.gz", "parquet", "arrow", "arrows", "tar", "saved")
RECORDS_A_POOL = 10
_GOOD = 4


def written(folder: Path, container: str, texts: list[bytes]) -> Path:
    """Write records, each as JSON text, into a container of JSON; returns the file."""
    path = folder / f"pool.{container}"
    if container.startswith("json") and container != "jsonl":
        content = b"[" + b",\n".join(texts) + b"]"
    else:
        content = b"\n".join(texts) + b"\n"
    path.write_bytes(gzip.compress(content, 1) if container.endswith(".gz") else content)
    return path


def malformed_records(
    folder: Path, record_format: str, generator: random.Random, pictures: Pictures
) -> tuple[Path, int]:
    """Write JSON Lines of three good records around ten malformed ones; returns the file and its rows."""
    made = (good_record(record_format, number, pictures) for number in range(RECORDS_A_POOL))
    bad = [MUTATIONS[generator.choice(list(MUTATIONS))](record, generator) for record in made]
    bad = [text.strip(b" \t\r\n") or b"-" for text in bad]
    good = [json.dumps(good_record(record_format, number, pictures)).encode() for number in (7, 8, 9)]
    ending = generator.choice((b"\n", b"\r\n", b"\n\n", b" \n"))
    path = folder / "pool.jsonl"
    path.write_bytes(ending.join([*good[:2], *bad, good[2]]) + generator.choice((b"", ending)))
    return path, 3 + sum(len([line for line in text.split(b"\n") if line.strip(b" \t\r")]) for text in bad)


def malformed_array(folder: Path, record_format: str, generator: random.Random, pictures: Pictures) -> Path:
    """Write an array with one malformed record in it, or whose own structure is wrong."""
    texts = [json.dumps(good_record(record_format, number, pictures)).encode() for number in range(3)]
    name = generator.choice(list(MUTATIONS))
    texts[generator.randrange(3)] = MUTATIONS[name](good_record(record_format, 9, pictures), generator)
    content = b"[" + b", ".join(texts) + b"]"
    content = generator.choice(
        (
            content,
            content,
            content,
            content + b"]",
            content + content,
            content[:-1],
            content[1:],
            content + b"\0",
            b"\xef\xbb\xbf" + content,
            content.replace(b", ", b",,"),
            content[:-1] + b",]",
            b'{"data": ' + content + b"}",
            content.replace(b'"', b"'"),
            b"//x\n" + content,
        )
    )
    path = folder / "pool.json"
    path.write_bytes(gzip.compress(content, 1) if generator.random() < 0.2 else content)
    return path


def whole_file(folder: Path, container: str, generator: random.Random, pictures: Pictures) -> Path:
    """Write a container of good records with their pictures; returns the file that may be damaged."""
    record_format = generator.choice(FORMATS)
    records = [good_record(record_format, number, pictures) for number in range(_GOOD)]
    if container in {"json", "jsonl", "json.gz"}:
        return written(folder, container, [json.dumps(record).encode() for record in records])
    if container == "tar":
        return _tar(folder, records, pictures, generator)
    for record in records:
        shown = {"bytes": Path(pictures[record["id"]]).read_bytes(), "path": None}
        for key in ("image", "images"):
            if key in record:
                record[key] = shown if key == "image" else [shown]
    table = pa.Table.from_pylist(records)
    if generator.random() < 0.3:
        table = table.append_column("kind", pa.array(["a", "b"] * (_GOOD // 2)).dictionary_encode())
    if container == "parquet":
        path = folder / "pool.parquet"
        pq.write_table(table, path, compression=generator.choice(("none", "snappy", "zstd")), row_group_size=2)
        return path
    if container == "saved":
        from datasets import Dataset  # noqa: PLC0415  takes a second

        Dataset(table).save_to_disk(folder / "pool")
        return generator.choice(sorted((folder / "pool").iterdir()))
    path = folder / "pool.arrow"
    new = pa.ipc.new_stream if container == "arrows" else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=generator.choice((None, "lz4", "zstd")))
    with path.open("wb") as stream, new(stream, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def _tar(folder: Path, records: list[dict[str, Any]], pictures: Pictures, generator: random.Random) -> Path:
    path = folder / "pool.tar"
    kind = generator.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(path, "w", format=kind) as archive:
        for number, record in enumerate(records):
            for field, content in (("json", json.dumps(record).encode()), ("png", pictures[number].read_bytes())):
                member = tarfile.TarInfo(f"{generator.choice(('', 'a/' * 70))}{number}.{field}")
                member.size, member.mtime = len(content), 1
                archive.addfile(member, io.BytesIO(content))
    return path


def damage(path: Path, generator: random.Random) -> None:
    """Change a file at random places."""
    content = bytearray(path.read_bytes())
    size = len(content)
    how = generator.randrange(8)
    if how == 0:
        del content[generator.randrange(size) :]
    elif how in {1, 2, 3}:
        near_end = generator.random() < 0.5
        for _ in range(generator.choice((1, 1, 3, 30))):
            place = generator.randrange(max(0, size - 2000) if near_end else 0, size)
            content[place] ^= 1 << generator.randrange(8)
    elif how == 4:
        place = generator.randrange(size)
        content[place : place + generator.choice((1, 4, 512))] = b""
    elif how == 5:
        place = generator.randrange(size)
        content[place:place] = generator.randbytes(generator.choice((1, 4, 512)))
    elif how == 6:
        place = generator.randrange(size)
        content[place : place + 64] = generator.choice((b"\0", b"\xff")) * 64
    else:
        content += generator.choice((b"\0", b"x", bytes(content), generator.randbytes(100)))
    path.write_bytes(content)


def odd_table(folder: Path, generator: random.Random, pictures: Pictures) -> tuple[Path, int]:
    """Write a table whose columns have other types than anybody expects; returns file and rows."""
    good = [good_record("llava", number, pictures) for number in range(3)]
    columns = {name: pa.array([record[name] for record in good]) for name in good[0]}
    odd = (
        pa.array([b"\xff\xfe", b"", None]),
        pa.array([1.5, float("nan"), None]),
        pa.nulls(3),
        pa.array([[], None, [None]]),
        pa.array([{"a": 1}, None, {"a": None}]),
        pa.array([[["x"]], [], None]),
        pa.array([0, 2**62, None]),
        pa.array([b"\xff", b"a", b"b"]).view(pa.string()),
        pa.array(["<image>", "\0", None]).dictionary_encode(),
        pa.array([10**17, 0, None], pa.timestamp("us")),
        pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        pa.array([{"bytes": b"x", "path": None}, {"bytes": None, "path": "a"}, None]),
        pa.array([True, None, False]),
    )
    name = generator.choice([*columns, "system", "video", "extra"])
    columns[name] = generator.choice(odd)
    table = pa.table(columns)
    if generator.random() < 0.5:
        pq.write_table(table, folder / "pool.parquet")
        return folder / "pool.parquet", 3
    with pa.ipc.new_stream(folder / "pool.arrow", table.schema) as writer:
        writer.write_table(table)
    return folder / "pool.arrow", 3

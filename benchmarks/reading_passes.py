"""What opening a pool, reading records of it and writing a part of it cost: in this package, and the least it can cost.

Linux only: the peak of resident memory is read from ``/proc``.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tarfile
import time
from bisect import bisect_left
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow.parquet as pq

from reading_pools import LIGHT_COLUMNS
from scalselect.dataset.containers import open_records
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.16  # of the rows that are written
READ_AT_RANDOM = 2_000


class Cost(NamedTuple):
    """What one process cost.

    Attributes
    ----------
    seconds, cpu_seconds
        By the clock and of the CPU, of all threads, by stage.
    peak
        Highest resident memory of the whole process while the pool was opened, interpreter, libraries and mapped pages
        of files included, in bytes.
    records
        Number of records found.
    written
        Bytes of the part that was written.
    """

    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    peak: int
    records: int
    written: int


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - begin
        self.cpu_seconds[name] = time.process_time() - cpu_begin


def ours(kind: str, pool: Path, part: Path) -> Cost:
    """Open the pool, read records, write a part of it into the folder `part`."""
    clock = _Clock()
    with clock.stage("open"):
        records = open_records(pool)[0]
        records.fingerprint()
    peak = _peak()
    count = len(records)
    at_random = random.Random(0).choices(range(count), k=READ_AT_RANDOM)
    with clock.stage("random"):
        for row in at_random:
            records.raw(row)
    if kind == "parquet":
        with clock.stage("all"):
            for row in range(count):
                records.raw(row)
    chosen = _chosen(count)
    with clock.stage("write"):
        (written,) = records.write(chosen, part / "selected")
    return Cost(clock.seconds, clock.cpu_seconds, peak, count, written.path.stat().st_size)


def limit(kind: str, pool: Path, part: Path) -> Cost:
    """Do the least that tells where the records are and what the file is; copy a file as large as the part."""
    clock = _Clock()
    with clock.stage("open"):
        count = _LEAST[kind](pool)
    peak = _peak()
    if kind == "parquet":
        with clock.stage("all"):
            for batch in pq.ParquetFile(pool).iter_batches(columns=LIGHT_COLUMNS):
                for row in batch.to_pylist():
                    json.dumps(row)
    with clock.stage("write"), publish_stream(part / "selected") as stream:
        if kind == "parquet":
            _take(pool, _chosen(count), stream)
        else:
            with (part.parent / "as-large").open("rb") as source:
                shutil.copyfileobj(source, stream)
    return Cost(clock.seconds, clock.cpu_seconds, peak, count, (part / "selected").stat().st_size)


WAYS = {"ours": ours, "limit": limit}


def cost_here(way: str, kind: str, pool: Path) -> Cost:
    """Measure one way in this process."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    part = pool.parent / "part"
    part.mkdir()
    try:
        return WAYS[way](kind, pool, part)
    finally:
        shutil.rmtree(part)


def _chosen(count: int) -> list[int]:
    return sorted(random.Random(1).sample(range(count), round(SHARE * count)))


def _take(pool: Path, rows: list[int], stream: IO[bytes]) -> None:
    """Write rows of a Parquet file, one row group at a time."""
    file, first, place = pq.ParquetFile(pool), 0, 0
    with pq.ParquetWriter(stream, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            end = bisect_left(rows, first + len(table), place)
            if end > place:
                writer.write_table(table.take([row - first for row in rows[place:end]]))
            first, place = first + len(table), end


def _array(pool: Path) -> int:
    return len(msgspec.json.decode(pool.read_bytes(), type=list[msgspec.Raw]))


def _lines(pool: Path) -> int:
    return len(msgspec.json.Decoder(msgspec.Raw).decode_lines(pool.read_bytes()))


def _parquet(pool: Path) -> int:
    _hash(pool)
    return int(pq.ParquetFile(pool).metadata.num_rows)


def _tar(pool: Path) -> int:
    _hash(pool)
    found = 0
    with tarfile.open(pool, "r:") as tar:
        for member in tar:
            found += member.name.endswith(".json")
            tar.members.clear()
    return found


_LEAST = {"json": _array, "jsonl": _lines, "parquet": _parquet, "tar": _tar}


def _hash(pool: Path) -> str:
    with pool.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

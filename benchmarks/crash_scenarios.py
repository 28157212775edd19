"""The commands that the crash campaign kills: every way of writing that a run folder knows, over tiny pools."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[1:1] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("examples", "tests")]

ROWS = 22
BUCKET = "crashes"
_SHARDS = ["--shard-size", "6", "--threads", "1"]


@dataclass(frozen=True)
class Scenario:
    """A command to be killed and repeated.

    Attributes
    ----------
    words
        The command; `{out}` stands for the run folder, `{data}` for the folder of the pools, `{model}` for the
        checkpoint.
    made_before
        Words of a command that makes the run folder first; none where the killed command makes it itself.
    weight
        How often it is drawn, beside the others.
    remote
        Whether data and run folder lie in an object store.
    """

    name: str
    words: list[str]
    made_before: list[str] = field(default_factory=list)
    weight: int = 1
    remote: bool = False


def _run(data: str, *options: str) -> list[str]:
    return ["run", *data.split(), "--model", "{model}", "--output", "{out}", *_SHARDS, *options]


_MADE = _run("{data}/pool.json", "--budget", "50%", "--vectors", "vision+instruction")

SCENARIOS = [
    Scenario("run, JSON", _run("{data}/pool.json", "--budget", "50%"), weight=3),
    Scenario(
        "run, JSON, two processes beside the model",
        _run("{data}/pool.json", "--budget", "50%", "--dataloader-workers", "2"),
        weight=3,
    ),
    Scenario(
        "run, gzip, two budgets, near copies",
        _run("{data}/pool.jsonl.gz", "--budget", "3,50%", "--deduplicate", "near", "--vectors", "vision+instruction"),
    ),
    Scenario("run, Parquet", _run("{data}/pool.parquet", "--budget", "5", "--store-dtype", "float16")),
    Scenario("run, tar", _run("{data}/pool.tar", "--budget", "40%", "--order", "image")),
    Scenario("run, two data sets", _run("a={data}/pool.json b={data}/pool.parquet", "--budget", "30%")),
    Scenario("extend", ["extend", "{out}", "{data}/pool.parquet"], made_before=_MADE),
    Scenario("score", ["score", "{out}", "--energy", "0.5"], made_before=_MADE),
    Scenario("select", ["select", "{out}", "--budget", "4,30%,60%", "--deduplicate", "near"], made_before=_MADE),
    Scenario("run, object store", _run("{data}/pool.json", "--budget", "50%"), remote=True),
]


def write_inputs(folder: Path) -> None:
    """Write a tiny checkpoint and the same kind of pool in every container; one row's picture does not exist."""
    import pyarrow as pa  # noqa: PLC0415  in the process that builds, not in the one that forks
    import pyarrow.parquet as pq  # noqa: PLC0415

    from small_pools import write_pool  # noqa: PLC0415
    from tars import samples, write_tar  # noqa: PLC0415
    from tiny_vlms import build_checkpoint, make_pictures  # noqa: PLC0415

    build_checkpoint("llava", folder / "model")
    names = [str(path.relative_to(folder)) for path in make_pictures(folder / "pictures", 6, 0)]
    path = write_pool(folder, names, rows=ROWS)
    records = json.loads(path.read_bytes())
    records[9]["image"] = "pictures/gone.png"
    path.write_text(json.dumps(records))
    with gzip.open(folder / "pool.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)
    table = [
        {"id": record["id"], "image": record["image"], "conversations": record["conversations"]} for record in records
    ]
    pq.write_table(pa.Table.from_pylist(table[::-1]), folder / "pool.parquet")
    write_tar(folder / "pool.tar", samples(ROWS))


def serve_object_store(data: Path, address: Path) -> None:
    """Run an S3 server in this process until it is killed, the pools in its bucket; write its address to a file."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  in a process of its own

    from object_store import access_for, store, upload  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(access_for(f"http://{host}:{port}"))
    store().mkdir(BUCKET)
    upload(data, f"s3://{BUCKET}/data")
    address.with_suffix(".part").write_text(f"http://{host}:{port}")
    address.with_suffix(".part").rename(address)
    while True:
        time.sleep(3600)

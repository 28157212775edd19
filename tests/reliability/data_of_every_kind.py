"""Data sets of every kind, of as many rows as some vectors that they are given for."""

from __future__ import annotations

import gzip
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tables import conversation, picture
from tars import samples, write_tar

ROWS = 30
INCOMPRESSIBLE = np.random.default_rng(3)


def told(number):
    """Return a record whose text no compression makes short."""
    return {
        "id": f"row-{number}",
        "note": INCOMPRESSIBLE.bytes(500).hex(),
        "image": f"{number}.png",
        "conversations": conversation(number),
    }


def shown(number):
    """Return a row of a table with the picture in it."""
    return told(number) | {"image": {"bytes": picture(number) + INCOMPRESSIBLE.bytes(900), "path": None}}


def write_json(path, numbers=range(ROWS)):
    path.write_text(json.dumps([told(number) for number in numbers], indent=1))
    return [path]


def write_lines(path, numbers=range(ROWS)):
    path.write_text("".join(json.dumps(told(number)) + "\n" for number in numbers))
    return [path]


def write_gzip(path):
    path.write_bytes(gzip.compress(json.dumps([told(number) for number in range(ROWS)]).encode()))
    return [path]


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist([shown(number) for number in range(ROWS)]), path)
    return [path]


def write_arrow(path):
    table = pa.Table.from_pylist([shown(number) for number in range(ROWS)])
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return [path]


def write_saved(path):
    datasets.Dataset.from_list([shown(number) for number in range(ROWS)]).save_to_disk(path, num_shards=2)
    return [path]


def write_several(path):
    return [
        *write_json(path.with_suffix(".json"), range(ROWS // 2)),
        *write_lines(path.with_suffix(".jsonl"), range(ROWS // 2, ROWS)),
    ]


# Writers of a data set of each kind, of as many rows as there are vectors; they return its paths.
WRITERS = {
    "json": write_json,
    "jsonl": write_lines,
    "json.gz": write_gzip,
    "parquet": write_parquet,
    "arrow": write_arrow,
    "tar": lambda path: [write_tar(path, samples(ROWS))],
    "saved": write_saved,
    "several": write_several,
}

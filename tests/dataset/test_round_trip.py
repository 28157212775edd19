"""500 generated records through every container: what was asked for comes out, nothing else, unchanged and in order.

What was written is read by somebody else's reader: that of Python, webdataset, pyarrow or HF datasets.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalselect.dataset.containers import open_records
from tables import RECORDS, SCHEMA, expected
from tars import png, read_back, write_tar

RECORDS_AT_ONCE, TIMES = 20, 25  # 500 records for each container
EVERY_RECORD = settings(max_examples=TIMES, database=None, suppress_health_check=list(HealthCheck))
PLANES = "".join(chr(plane * 0x10000 + 0x4E2D) for plane in range(17))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [PLANES, "<image>", "2024-01-31"]
)
SPELLED = [  # values whose very spelling must stay
    '"007"',
    "7",
    "7.0",
    "7.00e+0",
    "-0",
    "1e400",
    "-Infinity",
    "NaN",
    "123456789" * 30,
    "0.1000000000000000055511151231257827",
    '"2024-01-31"',
    '"\\u00e9 \\/ \\ud83d\\ude00"',
    '"\\ud800"',
    "null",
    "[ ]",
    "{  }",
    "true",
]


def array_text(values):
    return f"[{', '.join(values)}]"


def object_text(members):
    return "{" + " ,".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


VALUE_TEXTS = st.recursive(
    st.sampled_from(SPELLED) | TEXTS.map(json.dumps) | TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: (
        st.lists(inner, max_size=3).map(array_text) | st.dictionaries(TEXTS, inner, max_size=3).map(object_text)
    ),
    max_leaves=6,
)
KEYS = TEXTS | st.sampled_from(["id", "conversations", "messages", "unknown", "__key__"])
RECORD_TEXTS = st.dictionaries(KEYS, VALUE_TEXTS, max_size=5).map(object_text).map(str.encode)


class Texts(NamedTuple):
    """A container of JSON records: how another writes it, and reads the texts of its records back."""

    name: str
    write: Callable[[Path, list[bytes]], Path]
    read: Callable[[Path], list[bytes]]


def in_array(path, records):
    path.write_bytes(b"[" + b" ,\n".join(records) + b"\n]")
    return path


def in_lines(path, records):
    path.write_bytes(b"\r\n".join(records))
    return path


def packed(write):
    def write_packed(path, records):
        path.write_bytes(gzip.compress(write(path, records).read_bytes()))
        return path

    return write_packed


def in_tar(path, records):
    return write_tar(path, [{"__key__": f"k/{n:04}", "json": text, "png": png(n)} for n, text in enumerate(records)])


def of_array(path):
    text, found = path.read_text(encoding="utf-8"), []
    assert text[:2] == "[\n"
    position = 2
    while text[position] != "]":
        start = position
        _, position = json.JSONDecoder().raw_decode(text, start)
        found.append(text[start:position].encode())
        position += len(",\n") if text[position] == "," else len("\n")
    assert text[position:] == "]\n"
    return found


def of_lines(path):
    return path.read_bytes().split(b"\n")[:-1]


def unpacked(read):
    def read_packed(path):
        plain = path.with_suffix(".plain")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        return read(plain)

    return read_packed


def of_tar(path):
    samples = read_back(path)
    assert [sample["png"] for sample in samples] == [png(int(sample["__key__"][2:])) for sample in samples]
    return [sample["json"] for sample in samples]


TEXT_CONTAINERS = [
    Texts("json", in_array, of_array),
    Texts("jsonl", in_lines, of_lines),
    Texts("json.gz", packed(in_array), unpacked(of_array)),
    Texts("jsonl.gz", packed(in_lines), unpacked(of_lines)),
    Texts("tar", in_tar, of_tar),
]


@pytest.mark.parametrize("way", TEXT_CONTAINERS, ids=lambda way: way.name)
def test_texts_of_records_come_back_byte_for_byte(tmp_path_factory, way):
    folder = tmp_path_factory.mktemp("round")
    seen = []

    @EVERY_RECORD
    @given(st.lists(RECORD_TEXTS, min_size=RECORDS_AT_ONCE, max_size=RECORDS_AT_ONCE), st.data())
    def round_trip(texts, data):
        records, _ = open_records(way.write(folder / "pool", texts))
        assert (records.container, len(records)) == (way.name, len(texts))
        if way.name != "tar":
            assert [records.raw(row) for row in range(len(texts))] == texts
        chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(texts))))))
        (written,) = records.write(chosen, folder / "selected")
        assert (written.path.name, written.records) == (f"selected.{way.name}", len(chosen))
        assert way.read(written.path) == [texts[row] for row in chosen]
        seen.extend(texts)

    round_trip()
    assert len(seen) >= RECORDS_AT_ONCE * TIMES


class Tables(NamedTuple):
    """A container of tables: how its own library writes it, and reads it."""

    name: str
    schema: pa.Schema
    write: Callable[[Path, pa.Table], Any]
    read: Callable[[Path], pa.Table]


def in_arrow(path, table):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def of_arrow(path):
    return pa.ipc.open_file(path).read_all()


def in_folder(path, table):
    datasets.Dataset(table).save_to_disk(path, num_shards=2)


def of_folder(path):
    return datasets.load_from_disk(path).with_format("arrow")[:]


UNKNOWN_TO_DATASETS = {"counts", "kind", "price"}
SAVED_SCHEMA = pa.schema([field.with_metadata(None) for field in SCHEMA if field.name not in UNKNOWN_TO_DATASETS])
TABLE_CONTAINERS = [
    Tables("parquet", SCHEMA, lambda path, table: pq.write_table(table, path, row_group_size=2), pq.read_table),
    Tables("arrow", SCHEMA, in_arrow, of_arrow),
    Tables("saved", SAVED_SCHEMA, in_folder, of_folder),
]


@pytest.mark.parametrize("way", TABLE_CONTAINERS, ids=lambda way: way.name)
def test_values_of_tables_come_back_under_the_same_schema(tmp_path_factory, way):
    folder = tmp_path_factory.mktemp("round")
    seen = []

    @EVERY_RECORD
    @given(st.lists(RECORDS, min_size=RECORDS_AT_ONCE, max_size=RECORDS_AT_ONCE), st.data())
    def round_trip(rows, data):
        rows = [{name: row[name] for name in way.schema.names} for row in rows]
        path = folder / str(len(seen)) / "pool"
        path.parent.mkdir(exist_ok=True)
        way.write(path, pa.Table.from_pylist(rows, schema=way.schema))
        records, _ = open_records(path)
        assert (records.container, len(records)) == (way.name, len(rows))
        whole = [expected({**dict.fromkeys(SCHEMA.names), **row})[0] for row in rows]
        assert [json.loads(records.raw(row)) for row in range(len(rows))] == [
            {name: text[name] for name in way.schema.names} for text in whole
        ]
        chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(rows))))))
        written = records.write(chosen, path.parent / "selected")
        assert sum(file.records for file in written) == len(chosen)
        subset = path.parent / "selected" if len(written) > 1 else written[0].path
        before, after = way.read(path), way.read(subset)
        assert after.schema.equals(before.schema, check_metadata=True)
        assert after.equals(before.take(pa.array(chosen, pa.int64())))
        seen.extend(rows)

    round_trip()
    assert len(seen) >= RECORDS_AT_ONCE * TIMES

"""Rows of Arrow files and streams are read as JSON without loss, and come out in the same format and schema."""

import json
import pickle

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalselect.dataset.containers import open_records
from scalselect.errors import DataChangedError, DatasetError
from tables import RECORDS, SCHEMA, conversation, expected, picture


def write_arrow(path, table, *, stream, rows=3, compression=None):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def read_arrow(path, *, stream):
    return (pa.ipc.open_stream if stream else pa.ipc.open_file)(pa.memory_map(str(path))).read_all()


def embedded(records, row):
    values = []
    while (content := records.embedded(row, len(values))) is not None:
        values.append(content)
    return values


PLAIN = SCHEMA.remove(SCHEMA.get_field_index("kind"))  # without a dictionary


@settings(max_examples=40)
@given(
    st.lists(RECORDS, min_size=1, max_size=6),
    st.sampled_from([SCHEMA, PLAIN]),
    st.booleans(),
    st.sampled_from([None, "lz4"]),
    st.data(),
)
def test_round_trip_of_generated_rows(tmp_path_factory, rows, schema, stream, compression, data):
    folder = tmp_path_factory.mktemp("round")
    table = pa.Table.from_pylist(rows, schema=schema)
    size = data.draw(st.integers(1, 4))
    path = write_arrow(folder / "pool.arrow", table, stream=stream, rows=size, compression=compression)
    records, _ = open_records(path)
    assert len(records) == len(rows)
    for row in data.draw(st.permutations(range(len(rows)))):
        texts, contents = expected(rows[row])
        assert json.loads(records.raw(row)) == {name: texts[name] for name in schema.names}
        assert embedded(records, row) == contents
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(rows))))))
    (written,) = records.write(chosen, folder / "selected")
    assert (written.path, written.records) == (folder / "selected.arrow", len(chosen))
    after = read_arrow(written.path, stream=stream)
    assert after.schema.equals(schema, check_metadata=True)
    assert after.equals(read_arrow(path, stream=stream).take(pa.array(chosen, pa.int64())))


@pytest.mark.parametrize("stream", [False, True])
def test_dictionaries_that_change_on_the_way(tmp_path, stream):
    chunks = [pa.array(letters).dictionary_encode() for letters in (["a", "b"], ["c", "a"], ["d", "d"])]
    if not stream:
        chunks = pa.chunked_array(chunks).unify_dictionaries().chunks
    path = write_arrow(tmp_path / "pool.arrow", pa.table({"kind": pa.chunked_array(chunks)}), stream=stream)
    records, _ = open_records(path)
    told = [json.loads(records.raw(row))["kind"] for row in (5, 0, 3, 2, 1, 4)]
    assert told == ["d", "a", "a", "c", "b", "d"]
    (written,) = records.write([1, 2, 5], tmp_path / "selected")
    assert read_arrow(written.path, stream=stream)["kind"].to_pylist() == ["b", "c", "d"]


def test_cache_file_of_datasets_is_a_data_set(tmp_path):
    rows = [{"id": f"{n:03}", "conversations": conversation(n), "image": picture(n)} for n in range(8)]
    path = tmp_path / "dataset-train.arrow"
    with datasets.arrow_writer.ArrowWriter(path=str(path), writer_batch_size=3) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    records, _ = open_records(path)
    assert [json.loads(records.raw(row))["id"] for row in range(8)] == [row["id"] for row in rows]
    assert records.embedded(5, 0) == picture(5)
    (written,) = records.write([2, 5], tmp_path / "selected")
    assert datasets.Dataset.from_file(str(written.path)).to_list() == [rows[2], rows[5]]


def test_several_files_change_and_pickle(tmp_path):
    for part in range(2):
        table = pa.table({"id": [f"{part}-{n}" for n in range(4)]})
        write_arrow(tmp_path / f"data-{part}.arrow", table, stream=bool(part))
    records, _ = open_records(tmp_path)
    thawed = pickle.loads(pickle.dumps(records))
    assert [json.loads(thawed.raw(row))["id"] for row in range(8)] == [f"{p}-{n}" for p in range(2) for n in range(4)]
    written = records.write([1, 5], tmp_path / "selected")
    assert [(file.path.name, file.records) for file in written] == [("data-0.arrow", 1), ("data-1.arrow", 1)]
    assert read_arrow(written[1].path, stream=True)["id"].to_pylist() == ["1-1"]
    (tmp_path / "data-1.arrow").write_bytes(b"")
    assert thawed.raw(0) == b'{"id": "0-0"}'
    for call in (lambda: thawed.raw(4), records.check_unchanged):
        with pytest.raises(DataChangedError, match=r"data-1\.arrow"):
            call()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_damaged_file_is_refused(tmp_path, stream, kept):
    path = write_arrow(tmp_path / "pool.arrow", pa.table({"id": ["a" * 900, "b" * 900, "c"]}), stream=stream, rows=1)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))] or b'{"id": 1}')
    with pytest.raises(DatasetError, match=r"Arrow file cannot be read: .*pool\.arrow"):
        open_records(path)

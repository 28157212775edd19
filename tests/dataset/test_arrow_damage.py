"""Arrow data with wrong offsets, which Arrow itself would follow out of the file, become rows with a reason."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset import parquet_groups
from scalselect.dataset.arrow_damage import check_array, is_damage
from scalselect.dataset.containers import open_records
from scalselect.errors import DatasetError

ROWS = [{"id": f"row {n}", "turns": [{"from": "a", "value": "b" * n}], "picture": b"x" * n} for n in range(4)]


def written(path, new):
    table = pa.Table.from_pylist(ROWS)
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def with_wrong_offsets(path):
    """Change the offsets of the ids of the second batch so that they lead far out of the file."""
    content = bytearray(path.read_bytes())
    place = content.rfind(np.array([0, 5, 10], np.int32).tobytes())
    content[place : place + 12] = np.array([0, 5 + (1 << 30), 1 << 30], np.int32).tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_wrong_offsets_spoil_their_batch_alone_or_refuse_the_file(tmp_path, new):
    path = with_wrong_offsets(written(tmp_path / "pool.arrow", new))
    try:
        records, _ = open_records(path)
    except DatasetError as error:
        assert "Arrow file cannot be read" in str(error)  # noqa: PT017
        return
    assert [json.loads(records.raw(row))["id"] for row in (0, 1)] == ["row 0", "row 1"]
    for row in (2, 3):
        assert records.raw(row) == b"null"
        assert records.fault(row).startswith("lies in a damaged record batch: ")


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_text_that_is_no_utf8_spoils_its_row_alone(tmp_path, new):
    path = written(tmp_path / "pool.arrow", new)
    path.write_bytes(path.read_bytes().replace(b"row 2", b"ro\xff 2"))
    records, _ = open_records(path)
    assert [records.raw(row) == b"null" for row in range(4)] == [False, False, True, False]
    assert "utf-8" in records.fault(2)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.list_(pa.string())])
def test_arrays_of_every_layout_of_text_pass(kind):
    check_array(pa.array([["a"], None] if pa.types.is_list(kind) else ["a", None], kind))
    check_array(pa.array([{"a": "b"}, None], pa.struct([("a", pa.string())])))
    check_array(pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())))
    check_array(pa.array(["a", "b"]).dictionary_encode())


def test_index_out_of_a_dictionary_does_not_pass():
    wrong = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(pa.ArrowInvalid):
        check_array(wrong)


def test_table_of_more_rows_than_its_file_can_hold_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"a": pa.nulls(3_000_000)}), path, row_group_size=3_000_000)
    assert path.stat().st_size * parquet_groups._ROWS_A_BYTE > 3_000_000  # no writer packs more tightly
    assert len(open_records(path)[0]) == 3_000_000
    monkeypatch.setattr(parquet_groups, "_ROWS_A_BYTE", 300)
    with pytest.raises(DatasetError, match="3,000,000 rows in a file of"):
        open_records(path)
    with pa.ipc.new_file(tmp_path / "pool.arrow", pa.schema([("a", pa.null())])) as writer:
        writer.write_table(pa.table({"a": pa.nulls(3_000_000)}))
    with pytest.raises(DatasetError, match="record batch of 3,000,000 rows in a file of"):
        open_records(tmp_path / "pool.arrow")


def test_only_impossible_allocations_are_the_fault_of_the_file():
    assert is_damage(pa.ArrowInvalid("no such thing"))
    assert is_damage(pa.ArrowMemoryError(f"malloc of size {1 << 61} failed"))
    assert not is_damage(pa.ArrowMemoryError(f"malloc of size {1 << 31} failed"))
    assert not is_damage(MemoryError())

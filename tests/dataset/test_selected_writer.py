"""Chosen records come back byte for byte, in order, in the source's own format."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.selected_writer import write_selected

IDS = ['"007"', "7", "7.0", "null", '"007"', "1" * 40, "[1,  2]", '"日本"', "NaN", '"\\ud800"']
TURNS = '"conversations" : [ {"from":"human","value":"é \\u00e9 \\/"} ]'
RECORDS = [f'{{"id":{id_}, {TURNS}}}' for id_ in IDS] + [f"{{{TURNS}}}"]


def test_array_keeps_each_record_verbatim(tmp_path):
    source = tmp_path / "pool.json"
    source.write_text("[\n  " + "  ,\n".join(RECORDS) + "]", encoding="utf-8")
    (path,) = write_selected(open_pool(source), np.array([0, 2, 5, 8, 10]), tmp_path)
    chosen = [RECORDS[row] for row in (0, 2, 5, 8, 10)]
    assert path == tmp_path / "selected.json"
    assert path.read_text(encoding="utf-8") == "[\n" + ",\n".join(chosen) + "\n]\n"


def test_lines_keep_each_record_verbatim(tmp_path):
    source = tmp_path / "pool.txt"
    source.write_bytes("\r\n\r\n".join([*RECORDS, "broken {"]).encode())
    (path,) = write_selected(open_pool(source), [1, 9, 11], tmp_path)
    assert path == tmp_path / "selected.jsonl"
    assert path.read_text(encoding="utf-8") == f"{RECORDS[1]}\n{RECORDS[9]}\nbroken {{\n"


def test_list_and_empty_choice(tmp_path):
    pool = open_pool([{"conversations": [], "id": 1}, {"id": "é"}])
    assert json.loads(write_selected(pool, [1], tmp_path)[0].read_bytes()) == [{"id": "é"}]
    assert json.loads(write_selected(pool, [], tmp_path)[0].read_bytes()) == []


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [-1, 0], [0, 2]])
def test_rows_out_of_order_or_range_write_nothing(tmp_path, rows):
    pool = open_pool([{"conversations": []}] * 3, limit=2)
    with pytest.raises(ValueError, match="rows"):
        write_selected(pool, rows, tmp_path)
    assert list(tmp_path.iterdir()) == []


def tables(folder, *names):
    folder.mkdir()
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    for name in names:
        records = [{"id": f"{name}-{number}", "conversations": turns} for number in range(4)]
        pq.write_table(pa.Table.from_pylist(records), folder / f"{name}.parquet")
    return open_pool(folder)


def test_a_folder_of_chosen_rows_holds_nothing_else(tmp_path):
    pool = tables(tmp_path / "data", "a", "rows", "z")
    written = write_selected(pool, [1, 4, 6, 11], tmp_path)
    folder = tmp_path / "selected"
    assert written == [*(folder / f"{name}.parquet" for name in ("a", "rows", "z")), tmp_path / "selected_rows.parquet"]
    read = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert read["id"] == ["a-1", "rows-0", "rows-2", "z-3"]
    places = pq.read_table(written[-1]).to_pylist()
    assert [place["row"] for place in places] == [1, 4, 6, 11]
    for place in places:
        assert pq.read_table(folder / place["file"])["id"][place["place"]].as_py() == place["id"]


def test_a_data_set_called_as_the_listing_keeps_its_rows(tmp_path):
    first, second = tables(tmp_path / "first", "rows"), tables(tmp_path / "second", "b")
    first = replace(first, source="rows")  # as of a run of this file alone that was extended
    written = write_selected(JoinedPool([first, second]), [0, 5], tmp_path)
    assert written[-1] == tmp_path / "selected_rows.parquet"
    places = pq.read_table(written[-1]).to_pylist()
    assert [place["file"] for place in places] == ["rows.parquet", "second.parquet"]
    for place in places:
        assert pq.read_table(tmp_path / "selected" / place["file"])["id"][0].as_py() == place["id"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text() | st.sampled_from(["id", "image", "conversations"]), VALUES, max_size=5)


@given(st.lists(OBJECTS, min_size=1, max_size=5), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_everything_chosen_equals_everything_given(tmp_path_factory, objects, lines, indent, ascii_only):
    folder = tmp_path_factory.mktemp("pool")
    source = folder / "pool.json"
    texts = [json.dumps(value, ensure_ascii=ascii_only, indent=None if lines else indent) for value in objects]
    content = ("\n".join(texts) if lines else "[" + " ,\n".join(texts) + "]").encode()
    source.write_bytes(content)
    pool = open_pool(source, format="llava")
    written = write_selected(pool, range(len(pool)), folder)[0].read_bytes()
    back = [json.loads(line) for line in written.splitlines()] if lines else json.loads(written)
    assert back == objects
    assert all(pool.raw(row) in content for row in range(len(pool)))
    assert [pool.raw(row).decode() for row in range(len(pool))] == texts
    assert len(list(pool.read(0, len(pool)))) == len(objects)

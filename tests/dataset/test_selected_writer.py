"""Chosen records come back byte for byte, in order, in the source's own format."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

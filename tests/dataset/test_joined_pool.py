"""Several pools in a row behave like one whose rows are theirs, one after the other."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import selected_writer
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.selected_writer import SELECTED_ROWS_SCHEMA, write_selected
from scalselect.errors import DataChangedError
from scalselect.records import Reason, UnusableRecord


def record(name, number, image="a.png"):
    turns = [{"from": "human", "value": f"<image>{name} {number}?"}, {"from": "gpt", "value": "Yes."}]
    return {"id": f"{name}-{number}", "image": image, "conversations": turns}


def write(folder, name, rows, *, lines=False, image="a.png"):
    folder.mkdir(parents=True, exist_ok=True)
    records = [json.dumps(record(name, number, image)) for number in range(rows)]
    path = folder / f"{name}.{'jsonl' if lines else 'json'}"
    path.write_text("\n".join(records) if lines else f"[{','.join(records)}]")
    return path


@pytest.fixture
def parts(tmp_path):
    """Return pools of 3, 1 and 4 rows, the second in JSON Lines."""
    folders = [write(tmp_path / "a", "first", 3), write(tmp_path / "b", "second", 1, lines=True)]
    return [open_pool(path) for path in [*folders, write(tmp_path / "c", "third", 4)]]


def test_rows_are_counted_on(parts):
    joined = JoinedPool(parts)
    assert len(joined) == 8
    assert (joined.rows, joined.rows_of(1), joined.rows_of(2)) == (range(8), range(3, 4), range(4, 8))
    samples = list(joined.read(0, 8))
    assert [sample.identity.row for sample in samples] == list(range(8))
    assert [sample.identity.source for sample in samples] == ["first"] * 3 + ["second"] + ["third"] * 4
    assert [joined.source_of(row) for row in range(8)] == [sample.identity.source for sample in samples]
    alone = [sample for part in parts for sample in part.read(0, len(part))]
    assert [(s.turns, s.images, s.text_sha256, s.identity.id) for s in samples] == [
        (s.turns, s.images, s.text_sha256, s.identity.id) for s in alone
    ]
    assert [joined.raw(row) for row in range(8)] == [part.raw(row) for part in parts for row in range(len(part))]


def test_rows_before_may_be_left_out(parts):
    whole, later = JoinedPool(parts), JoinedPool(parts[1:], first_row=3)
    assert (len(later), later.rows) == (5, range(3, 8))
    assert list(later.read(3, 8)) == list(whole.read(3, 8))
    assert list(later.samples_at([7, 3])) == [*whole.read(7, 8), *whole.read(3, 4)]
    assert later.identity(5) == whole.identity(5)
    for row in (2, 8, -1):
        with pytest.raises(IndexError, match=f"row {row} does not lie in rows 3 to 7"):
            later.raw(row)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (5, 9), (3, 2)])
def test_ranges_outside_are_refused(parts, start, stop):
    with pytest.raises(ValueError, match="do not lie in rows 0 to 8"):
        JoinedPool(parts).read(start, stop)


def test_parts_that_cannot_be_told_apart_are_refused(parts):
    for wrong in ([], [parts[0], parts[0]]):
        with pytest.raises(ValueError, match="sources differ"):
            JoinedPool(wrong)


def test_a_record_that_cannot_be_used_keeps_its_row(tmp_path, parts):
    path = tmp_path / "odd.json"
    path.write_text('[{"conversations": []}, 5]')
    sample = list(JoinedPool([parts[0], open_pool(path, format="llava")]).read(0, 5))[4]
    assert isinstance(sample, UnusableRecord)
    assert (sample.identity.row, sample.identity.source, sample.reason) == (4, "odd", Reason.INVALID_RECORD)


def test_each_part_is_ordered_by_its_own_images(tmp_path):
    first = tmp_path / "first.json"
    first.write_text(json.dumps([record("f", i, image) for i, image in enumerate(["a", "b", "a", "b"])]))
    second = tmp_path / "second.json"
    second.write_text(json.dumps([record("s", i, image) for i, image in enumerate(["b", "a", "b"])]))
    joined = JoinedPool([open_pool(first), open_pool(second)])
    assert joined.in_image_order().tolist() == [0, 2, 1, 3, 4, 6, 5]
    assert JoinedPool([open_pool(second)], first_row=4).in_image_order().tolist() == [4, 6, 5]


def test_a_part_that_changes_is_noticed(tmp_path, parts):
    joined = JoinedPool(parts)
    assert joined.fingerprint() == [part.fingerprint() for part in parts]
    joined.check_unchanged()
    assert list(pickle.loads(pickle.dumps(joined)).read(0, 8)) == list(joined.read(0, 8))
    write(tmp_path / "b", "second", 2, lines=True)
    with pytest.raises(DataChangedError):
        joined.check_unchanged()


@pytest.mark.parametrize("piece", [1, 8192])
def test_chosen_records_of_several_sources(tmp_path, parts, monkeypatch, piece):
    monkeypatch.setattr(selected_writer, "_PIECE_ROWS", piece)
    joined = JoinedPool(parts)
    written = write_selected(joined, [0, 2, 5, 6], tmp_path / "out")
    folder = tmp_path / "out" / "selected"
    assert written == [folder / name for name in ("first.json", "second.jsonl", "third.json", "rows.parquet")]
    assert {path.name for path in folder.iterdir()} == {path.name for path in written}
    contents = {path.name: path.read_bytes() for path in written}
    assert contents["first.json"] == b"[\n" + parts[0].raw(0) + b",\n" + parts[0].raw(2) + b"\n]\n"
    assert contents["second.jsonl"] == b""
    assert json.loads(contents["third.json"]) == [record("third", 1), record("third", 2)]
    table = pq.read_table(folder / "rows.parquet")
    assert table.schema == SELECTED_ROWS_SCHEMA
    assert table.to_pydict() == {
        "row": [0, 2, 5, 6],
        "source": ["first", "first", "third", "third"],
        "id": ["first-0", "first-2", "third-1", "third-2"],
        "id_type": ["string"] * 4,
        "file": ["first.json", "first.json", "third.json", "third.json"],
        "place": [0, 1, 0, 1],
    }
    write_selected(joined, [0, 2, 5, 6], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_one_joined_part_is_written_like_a_pool(tmp_path, parts):
    for name in ("pool", "joined"):
        (tmp_path / name).mkdir()
    alone = write_selected(parts[0], [1], tmp_path / "pool")
    joined = write_selected(JoinedPool(parts[:1]), [1], tmp_path / "joined")
    assert [path.name for path in alone] == [path.name for path in joined] == ["selected.json"]
    assert alone[0].read_bytes() == joined[0].read_bytes()


def test_nothing_chosen_is_written_too(tmp_path, parts):
    written = write_selected(JoinedPool(parts), [], tmp_path)
    assert [path.read_bytes() for path in written[:3]] == [b"[\n]\n", b"", b"[\n]\n"]
    assert pq.read_table(written[3]).equals(SELECTED_ROWS_SCHEMA.empty_table())


def test_rows_outside_write_nothing(tmp_path, parts):
    later = JoinedPool(parts[1:], first_row=3)
    for rows in ([2, 4], [4, 8], [5, 4], [4, 4]):
        with pytest.raises(ValueError, match="rows"):
            write_selected(later, rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_every_chosen_record_is_found_by_its_place(tmp_path_factory, sizes, data):
    folder = tmp_path_factory.mktemp("pools")
    pools = [open_pool(write(folder, f"p{number}", rows)) for number, rows in enumerate(sizes)]
    joined = JoinedPool(pools)
    rows = sorted(data.draw(st.sets(st.integers(0, sum(sizes) - 1))))
    (folder / "out").mkdir()
    written = write_selected(joined, np.array(rows, dtype=np.int64), folder / "out")
    if len(sizes) == 1:
        assert json.loads(written[0].read_bytes()) == [json.loads(joined.raw(row)) for row in rows]
        return
    contents = {path.name: json.loads(path.read_bytes()) for path in written[:-1]}
    places = pq.read_table(written[-1]).to_pylist()
    assert [place["row"] for place in places] == rows
    found = [contents[place["file"]][place["place"]] for place in places]
    assert found == [json.loads(joined.raw(row)) for row in rows]
    assert sum(map(len, contents.values())) == len(rows)

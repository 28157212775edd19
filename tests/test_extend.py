"""A pool that grew ends with the vectors, scores and choice of a run on everything, and old shards never move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import scalselect
from scalselect.run_folder import RunFolder
from scalselect.vlm import window
from small_pools import command, promised_files, record, scores_of

pytestmark = pytest.mark.usefixtures("shared_models_kept")

OPTIONS = ["--shard-size", "5", "--vectors", "vision+instruction"]
BUDGET = ["--budget", "40%"]


def write(path, pictures, numbers, *, lines=False):
    """Write records by number: which picture and question a number has does not depend on the file it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["red", "a blue circle", "left of the square", "how many"]
    records = [
        record(i, pictures[(i * i) % len(pictures)], question=f"Is it {words[i % 4]}?" * (1 + i % 3)) for i in numbers
    ]
    texts = [json.dumps(item) for item in records]
    path.write_text("\n".join(texts) if lines else json.dumps(records))
    return path


@pytest.fixture
def begin(tmp_path, pictures, checkpoints):
    """Return a function (name, numbers, *options) -> the folder of a finished run on these records."""

    def run(name, numbers, *options, budget=BUDGET):
        data = write(tmp_path / name / "pool.json", pictures, numbers)
        words = ["run" if budget else "represent", data, "--model", checkpoints("llava"), *OPTIONS, *budget]
        assert command(*words, *options, "--output", tmp_path / name / "run") == 0
        return tmp_path / name / "run"

    return run


def vectors_of(run_dir):
    shards = sorted((run_dir / "representations").glob("*.safetensors"))
    return {path.name: path.read_bytes() for path in shards}


def test_extended_by_whole_shards_nothing_differs(tmp_path, begin, pictures):
    whole, grown = begin("whole", range(30)), begin("grown", range(15))
    before = promised_files(grown)
    second = write(tmp_path / "more" / "second.jsonl", pictures, range(15, 20), lines=True)
    third = write(tmp_path / "more" / "third.json", pictures, range(20, 30))
    assert command("extend", grown, second, third) == 0
    after = promised_files(grown)
    assert all(after[name] == content for name, content in before.items() if name.startswith("representations"))
    assert vectors_of(grown) == vectors_of(whole)
    expected, found = scores_of(whole), scores_of(grown)
    for column in ("row", "id", "status", "leverage_score", "rank", "selected"):
        assert found[column] == expected[column], column
    assert found["source"] == ["pool"] * 15 + ["second"] * 5 + ["third"] * 10
    for name in ("subspace.safetensors", "instruction_subspace.safetensors"):
        one, other = load_file(whole / name), load_file(grown / name)
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_extended_anywhere_else_rows_agree_and_the_choice_is_the_same(tmp_path, begin, pictures):
    whole, grown = begin("whole", range(30)), begin("grown", range(13))
    more = write(tmp_path / "more.json", pictures, range(13, 30))
    assert command("extend", grown, more) == 0
    expected, found = scores_of(whole), scores_of(grown)
    assert found["leverage_score"] == pytest.approx(expected["leverage_score"], rel=1e-4)
    assert found["selected"] == expected["selected"]
    store = RunFolder(grown).store
    assert [store.report(shard).start for shard in range(7)] == [0, 5, 10, 13, 18, 23, 28]
    assert store.report(6).stop == 30
    assert store.all_rows(range(7), ["row"])["row"].to_pylist() == list(range(30))


def test_chosen_records_lie_in_a_file_for_each_data_set(tmp_path, begin, pictures):
    grown = begin("grown", range(10))
    assert (grown / "selected.json").exists()
    more = write(tmp_path / "more.jsonl", pictures, range(10, 20), lines=True)
    assert command("extend", grown, more) == 0
    assert not (grown / "selected.json").exists()
    rows = np.flatnonzero(scores_of(grown)["selected"])
    old = json.loads((grown / "selected" / "pool.json").read_text())
    new = [json.loads(line) for line in (grown / "selected" / "more.jsonl").read_text().splitlines()]
    assert [item["id"] for item in [*old, *new]] == [f"row-{row}" for row in rows]
    assert pq.read_table(grown / "selected" / "rows.parquet")["row"].to_pylist() == rows.tolist()
    content = json.loads((grown / "selection.json").read_text())
    assert content["selected"]["file"] == "selected"
    names = {"selected/pool.json", "selected/more.jsonl", "selected/rows.parquet"}
    assert names <= set(content["files"])
    (grown / "selected" / "more.jsonl").write_text("")
    assert command("select", grown, *BUDGET) == 0
    assert (grown / "selected" / "more.jsonl").read_text() != ""
    assert command("score", grown, "--energy", "0.5") == 0
    assert not (grown / "selected").exists()


def test_the_same_command_again_changes_nothing(tmp_path, begin, pictures, monkeypatch):
    grown = begin("grown", range(10))
    more = write(tmp_path / "more.json", pictures, range(10, 20))
    assert command("extend", grown, more) == 0
    before = {path: path.stat().st_mtime_ns for path in grown.rglob("*") if path.is_file()}
    monkeypatch.setattr(window, "launch_batch", None)
    assert command("extend", grown, more) == 0
    assert {path: path.stat().st_mtime_ns for path in grown.rglob("*") if path.is_file()} == before


def test_one_extension_after_another(tmp_path, begin, pictures):
    whole, grown = begin("whole", range(30)), begin("grown", range(10))
    for begins, ends in ((10, 20), (20, 30)):  # two files of one name
        more = write(tmp_path / str(begins) / "pool.json", pictures, range(begins, ends))
        assert command("extend", grown, more) == 0
    assert vectors_of(grown) == vectors_of(whole)
    assert scores_of(grown)["leverage_score"] == scores_of(whole)["leverage_score"]
    assert scores_of(grown)["source"] == ["pool"] * 10 + ["pool-2"] * 10 + ["pool-3"] * 10
    segments = json.loads((grown / "run.json").read_text())["segments"]
    assert [(s["source"], s["first_row"], s["first_shard"]) for s in segments] == [
        ("pool", 0, 0),
        ("pool-2", 10, 2),
        ("pool-3", 20, 4),
    ]
    assert {path.name for path in (grown / "selected").iterdir()} == {
        "pool.json",
        "pool-2.json",
        "pool-3.json",
        "rows.parquet",
    }


def test_the_first_command_still_works(tmp_path, begin, pictures, checkpoints):
    grown = begin("grown", range(10))
    more = write(tmp_path / "more.json", pictures, range(10, 20))
    assert command("extend", grown, more) == 0
    expected = promised_files(grown)
    shard = grown / "representations" / "shard-0000001.json"
    shard.unlink()
    words = ["run", tmp_path / "grown" / "pool.json", "--model", checkpoints("llava"), *OPTIONS, "--output", grown]
    assert command(*words, *BUDGET) == 0
    assert promised_files(grown) == expected
    assert command(*words, "--budget", "15") == 0  # more than the first data set holds
    assert sum(scores_of(grown)["selected"]) == 15


@pytest.mark.parametrize("order", ["pool", "image"])
def test_in_python_with_whatever_the_run_was_made_of(tmp_path, begin, pictures, order):
    grown = begin("grown", range(10), "--order", order, "--store-dtype", "float16", budget=())
    more = write(tmp_path / "more.json", pictures, range(10, 22))
    extended = scalselect.extend(grown, more)
    assert (extended.subspace, extended.selected) == (None, None)
    assert extended.represented.rows == extended.represented.pool_rows == 12
    assert [(s.source, s.first_row, s.rows) for s in extended.segments] == [("more", 10, 12)]
    store = RunFolder(grown).store
    assert sorted(store.representations(2)[0].tolist() + store.representations(3)[0].tolist()) != []
    assert store.all_rows(range(5), ["row"])["row"].to_pylist() == list(range(22))
    ids = store.all_rows(range(5), ["id"])["id"].to_pylist()
    assert ids == [f"row-{row}" for row in range(22)]
    assert scalselect.score(grown).rows == 22
    again = scalselect.extend(grown, [more])
    assert again.subspace.rows == 22
    result = scalselect.select(grown, budget=3)
    assert Path(result.folder / "selected" / "more.json").exists()
    assert scalselect.extend(grown, [more]).selected.rows.tolist() == result.rows.tolist()


def test_only_runs_that_grew_alike_are_compared(tmp_path, begin, pictures, capsys):
    one, other = begin("one", range(10)), begin("other", range(10))
    more = write(tmp_path / "more.json", pictures, range(10, 20))
    assert command("extend", one, more) == 0
    assert command("compare", one, other) == 2
    assert f"rows: 20 in {one}, 10 in {other}" in capsys.readouterr().err
    assert command("extend", other, write(tmp_path / "third.json", pictures, range(20, 30))) == 0
    assert command("compare", one, other) == 2
    assert "data_sha256" in capsys.readouterr().err
    third = begin("third", range(10))
    assert command("extend", third, more) == 0
    assert command("compare", one, third) == 0


def test_the_summary_tells_where_the_new_rows_stand(tmp_path, begin, pictures, capsys):
    grown, bare = begin("grown", range(10)), begin("bare", range(10), budget=())
    more = write(tmp_path / "more.json", pictures, range(10, 20))
    last = write(tmp_path / "last.json", pictures, range(20, 25))
    capsys.readouterr()
    assert command("extend", grown, more, last) == 0
    text = capsys.readouterr().out
    assert "extended   by 10 rows of more: rows 10 to 19\n           by 5 rows of last: rows 20 to 24\n" in text
    assert "pool       25 rows" in text
    assert str(grown / "selected") in text.replace("\n", "")
    assert command("extend", grown, more, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["rows"]["pool"] == 25
    assert content["represented"]["rows"] == 10
    assert [segment["first_row"] for segment in content["segments"]] == [10]
    assert command("extend", bare, more) == 0
    text = capsys.readouterr().out
    assert "new        10 rows" in text
    assert f"scalselect score {bare}" in text.replace("\n", " ").replace("           ", "")
    assert command("score", bare) == 0
    capsys.readouterr()
    assert command("extend", bare, more) == 0
    assert "scored     20 rows" in capsys.readouterr().out

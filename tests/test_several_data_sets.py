"""Several data sets in one run: each its own segment, one choice among all rows, a subset file for each."""

from __future__ import annotations

import json

import pytest

import scalselect
from scalselect.segments import segments_of
from small_pools import command, promised_files, record, scores_of

pytestmark = pytest.mark.usefixtures("shared_models_kept")


@pytest.fixture
def two(tmp_path, pictures):
    """Two data sets: a JSON array and JSON Lines whose images lie in another folder."""
    first, second = tmp_path / "a" / "first.json", tmp_path / "b" / "second.jsonl"
    for path in (first, second):
        path.parent.mkdir()
    first.write_text(json.dumps([record(i, pictures[i % 3], question="Is it red?" * (1 + i % 3)) for i in range(8)]))
    lines = [record(i, pictures[i % 4].name, question="How many?" * (1 + i % 2)) for i in range(8, 15)]
    second.write_text("\n".join(map(json.dumps, lines)))
    return first, f"shapes={second},images={pictures[0].parent}"


def options(checkpoints, output):
    return ["--model", checkpoints("llava"), "--shard-size", "5", "--output", output]


def test_one_run_over_both(tmp_path, two, checkpoints, capsys):
    words = [*options(checkpoints, tmp_path / "run"), "--budget", "40%", "--stratify-by", "source", "--json"]
    assert command("run", *two, *words) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"]["scored"] == 15
    scores = scores_of(tmp_path / "run")
    assert scores["source"] == ["first"] * 8 + ["shapes"] * 7
    assert scores["id"] == [f"row-{i}" for i in range(15)]
    chosen = [row for row in range(15) if scores["selected"][row]]
    assert sum(row < 8 for row in chosen) == 3  # 40 % of 8 and of 7, of 6 rows in all
    subsets = tmp_path / "run" / "selected"
    one = json.loads((subsets / "first.json").read_text())
    other = [json.loads(line) for line in (subsets / "shapes.jsonl").read_text().splitlines()]
    assert [each["id"] for each in one + other] == [f"row-{row}" for row in chosen]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [(part.source, part.first_row, part.shards) for part in segments_of(run)] == [
        ("first", 0, range(2)),
        ("shapes", 8, range(2, 4)),
    ]


def test_the_same_as_one_that_was_extended(tmp_path, two, checkpoints, pictures):
    whole = [*options(checkpoints, tmp_path / "whole"), "--budget", "40%"]
    assert command("run", *two, *whole) == 0
    assert command("run", two[0], *options(checkpoints, tmp_path / "grown"), "--budget", "40%") == 0
    second = tmp_path / "b" / "shapes.jsonl"
    (tmp_path / "b" / "second.jsonl").rename(second)
    assert command("extend", tmp_path / "grown", second, "--images", pictures[0].parent) == 0
    one, other = promised_files(tmp_path / "whole"), promised_files(tmp_path / "grown")
    assert one["scores.parquet"] == other["scores.parquet"]
    assert one["selected/shapes.jsonl"] == other["selected/shapes.jsonl"]


def test_again_does_nothing_and_other_data_are_refused(tmp_path, two, checkpoints, capsys):
    words = [*options(checkpoints, tmp_path / "run"), "--budget", "5"]
    assert command("run", *two, *words) == 0
    before = promised_files(tmp_path / "run")
    assert command("run", *two, *words) == 0
    assert promised_files(tmp_path / "run") == before
    capsys.readouterr()
    for other in (two[::-1], two[:1], [two[0], two[1].replace("shapes=", "forms=")]):
        assert command("run", *other, *words) == 2
        assert "belongs to another run" in capsys.readouterr().err
    assert command("select", tmp_path / "run", "--budget", "6") == 0
    moved = tmp_path / "moved.jsonl"
    (tmp_path / "b" / "second.jsonl").rename(moved)
    assert command("select", tmp_path / "run", "--budget", "7") == 2
    assert "are gone" in capsys.readouterr().err
    assert command("select", tmp_path / "run", "--budget", "7", "--dataset", moved) == 0


def test_a_trial_ends_inside_the_second(tmp_path, two, checkpoints):
    result = scalselect.run(
        list(two), model=checkpoints("llava"), budget=4, output=tmp_path / "run", limit=10, shard_size=5
    )
    assert (result.represented.rows, result.represented.pool_rows) == (10, 15)
    assert len(result.scores) == 10
    assert json.loads((tmp_path / "run" / "run.json").read_text())["represent"]["limit"] == 10


def test_lists_by_name(tmp_path, checkpoints, pictures):
    data = {
        name: [record(i, pictures[i % 3]) for i in numbers] for name, numbers in (("a", range(4)), ("b", range(4, 9)))
    }
    run = {"model": checkpoints("llava"), "output": tmp_path / "run"}
    result = scalselect.run(data, budget=3, **run)
    again = scalselect.select(tmp_path / "run", budget=3, dataset=data)
    assert again.rows.tolist() == result.rows.tolist()
    assert scores_of(tmp_path / "run")["source"] == ["a"] * 4 + ["b"] * 5
    with pytest.raises(scalselect.MisuseError, match=r"Python object \(a list or a datasets\.Dataset\)"):
        scalselect.select(tmp_path / "run", budget=2)


def test_extended_by_named_data(tmp_path, two, checkpoints, pictures, capsys):
    assert command("run", *two, *options(checkpoints, tmp_path / "run"), "--budget", "5") == 0
    more = tmp_path / "more.json"
    more.write_text(json.dumps([record(i, pictures[i % 3].name, question="Why?") for i in range(20, 24)]))
    assert command("extend", tmp_path / "run", f"late={more},images={pictures[0].parent}") == 0
    assert scores_of(tmp_path / "run")["source"] == ["first"] * 8 + ["shapes"] * 7 + ["late"] * 4
    assert command("extend", tmp_path / "run", f"late={more},images={pictures[0].parent}") == 0  # nothing is left to do
    assert len(scores_of(tmp_path / "run")["source"]) == 19
    capsys.readouterr()
    assert command("extend", tmp_path / "run", f"other={more},images={pictures[0].parent}") == 2
    assert "these data are in the run already" in capsys.readouterr().err
    assert command("extend", tmp_path / "run", tmp_path / "b" / "second.jsonl", "--images", pictures[0].parent) == 2
    assert "the data that the run began with" in capsys.readouterr().err

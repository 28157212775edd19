"""`how_to_train.md` of odd subsets: files of which nothing was chosen, and rows that trainers lose."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scalselect
from scalselect.summary import summary_of_run
from scored_runs import clustered_vectors

ROWS = 20


def turns(*roles):
    return [{"from": role, "value": f"{role} {number}"} for number, role in enumerate(roles)]


def plain(row, **fields):
    return {"id": f"{row}", **fields, "conversations": turns("human", "gpt")}


def scored(folder, *, weak=0):
    """Return a run of vectors that any records can be given for; the first `weak` of them are not chosen early."""
    vectors = clustered_vectors(ROWS)
    vectors[:weak] *= 1e-3
    np.save(folder / "X.npy", vectors)
    scalselect.score(representations=folder / "X.npy", output=folder / "run")
    return folder / "run"


def written(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    path.write_text(text if path.suffix == ".jsonl" else json.dumps(records))
    return path


def guide(run):
    return (run / "how_to_train.md").read_text()


def check_of(run):
    return shlex.split(re.search(r"`(scalselect check .*?)`", guide(run))[1])[1:]


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_an_empty_file_is_named_and_in_no_command(tmp_path, ending):
    first = written(tmp_path / f"a.{ending}", [plain(row) for row in range(10)])
    second = written(tmp_path / "b.json", [plain(row) for row in range(10, ROWS)])
    run = scored(tmp_path, weak=10)
    summary = summary_of_run(scalselect.select(run, budget=4, dataset=[first, second]))
    empty = run / "selected" / f"a.{ending}"
    assert empty.stat().st_size < 6
    assert str(empty) not in "".join(text for _, text in summary.lines)
    text = guide(run)
    assert f"Nothing was chosen of `{empty}`" in text
    assert text.count(str(empty)) == 1
    assert "chosen-a" not in text
    assert check_of(run) == ["check", str(run / "selected" / "b.json"), "--like", "llamafactory"]


def test_an_empty_file_of_one_data_set_is_in_no_command(tmp_path):
    for name, first in (("x", 0), ("y", 10)):
        table = pa.Table.from_pylist([plain(row) for row in range(first, first + 10)])
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    run = scored(tmp_path, weak=10)
    scalselect.select(run, budget=4, dataset=tmp_path / "data")
    (part,) = json.loads((run / "selection.json").read_text())["subset"]
    assert (len(part["names"]), len(part["empty"])) == (2, 1)
    assert guide(run).count(part["empty"][0]) == 1
    entries = json.loads(re.search(r"```json\n(.*?)\n```", guide(run), re.DOTALL)[1])
    assert [entry["file_name"].endswith("y.parquet") for entry in entries.values()] == [True]


def test_rows_that_the_order_of_turns_loses_are_told_and_taken_off(tmp_path):
    odd = [turns("human", "gpt", "human"), turns("gpt", "human", "gpt"), turns("human", "human", "gpt", "gpt")]
    records = [plain(row) for row in range(ROWS)]
    for record, said in zip(records, odd, strict=False):
        record["conversations"] = said
    data = written(tmp_path / "a.json", records)
    run = scored(tmp_path)
    scalselect.select(run, budget="100%", dataset=data)
    llamafactory, swift, llava, _ = guide(run).split("\n## ")[1:]
    assert "1 that end with a question, 1 whose turns do not alternate, 1 that start with an answer" in llamafactory
    assert "It must report 17 examples" in llamafactory
    assert "1 that end with a question: it trains with an open end" in swift
    assert "1 that start with an answer: it puts an empty question in front" in swift
    assert "1 that end with a question, of which it learns nothing" in llava
    assert f"scalselect export {run} --to llava" in llava
    exported = scalselect.export(run, to="llava", dataset=data)
    assert f"Of 20 records it leaves out {sum(exported.left_out.values())} (" in llava


def test_calls_that_exports_leave_out_are_told(tmp_path):
    call = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [{"a": "b"}]}]
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    records = [{"id": f"{row}", "messages": call if row < 2 else said} for row in range(ROWS)]
    run = scored(tmp_path)
    scalselect.select(run, budget="100%", dataset=written(tmp_path / "a.json", records))
    llamafactory, swift, llava, trl = guide(run).split("\n## ")[1:]
    for section in (llamafactory, swift, trl):
        assert "It leaves out 2 rows with calls of tools beside the text" in section
    assert "it leaves out 2 (2 with calls of tools" in llava
    assert "It must report 18 examples" in llamafactory


def test_the_printed_commands_are_not_broken_inside_a_path(tmp_path):
    folder = tmp_path / "a folder with spaces" / "and a rather long name of many words"
    data = written(folder / "data.jsonl", [plain(row) for row in range(ROWS)])
    run = scored(folder)
    printed = summary_of_run(scalselect.select(run, budget=4, dataset=data)).as_text()
    assert printed.count(f"'{run}/selected.jsonl'") == 1  # of ms-swift
    assert f"'{run}/selected.array.json'" in printed
    assert f"scalselect export '{run}'" in " ".join(printed.split("\n           "))
    assert "+ 4 text-only" not in printed

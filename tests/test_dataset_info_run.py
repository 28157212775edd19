"""Runs on data sets by their names in LLaMA-Factory's `dataset_info.json`, and what the run records of them."""

from __future__ import annotations

import json

import pytest

import scalselect
from small_pools import command, scores_of

pytestmark = pytest.mark.usefixtures("shared_models_kept")


@pytest.fixture
def folder(tmp_path, pictures):
    """A LLaMA-Factory data folder: alpaca records, and sharegpt ones under keys and roles of their own."""
    place = tmp_path / "data"
    place.mkdir()
    alpaca = [
        {
            "instruction": f"<image>What is it? ({i})",
            "input": "",
            "output": "A shape.",
            "images": [pictures[i % 3].name],
        }
        for i in range(6)
    ]
    talks = [
        {
            "talk": [
                {"who": "sys", "says": "Be brief."},
                {"who": "asker", "says": f"<image>Is it red? ({i})"},
                {"who": "answerer", "says": "No."},
            ],
            "pics": [pictures[i % 4].name],
        }
        for i in range(7)
    ]
    (place / "alpaca.json").write_text(json.dumps(alpaca))
    (place / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))
    info = {
        "mine": {
            "file_name": "alpaca.json",
            "columns": {"prompt": "instruction", "response": "output", "images": "images"},
        },
        "talks": {
            "file_name": "talks.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "images": "pics"},
            "tags": {
                "role_tag": "who",
                "content_tag": "says",
                "user_tag": "asker",
                "assistant_tag": "answerer",
                "system_tag": "sys",
            },
        },
    }
    (place / "dataset_info.json").write_text(json.dumps(info))
    return place


def test_names_in_dataset_info(folder, tmp_path, checkpoints, pictures, capsys):
    words = ["--dataset-info", folder / "dataset_info.json", "--media-dir", pictures[0].parent]
    run = [*words, "--model", checkpoints("llava"), "--budget", "50%", "--output", tmp_path / "run"]
    assert command("run", "mine,shapes=talks", *run) == 0
    scores = scores_of(tmp_path / "run")
    assert scores["source"] == ["mine"] * 6 + ["shapes"] * 7
    assert scores["status"] == ["scored"] * 13
    entries = json.loads((tmp_path / "run" / "run.json").read_text())["segments"]
    assert entries[1]["mapping"]["tags"]["user_tag"] == "asker"
    assert entries[1]["images"] == str(pictures[0].parent)
    chosen = [row - 6 for row in range(6, 13) if scores["selected"][row]]
    lines = (folder / "talks.jsonl").read_text().splitlines()
    assert (tmp_path / "run" / "selected" / "shapes.jsonl").read_text().splitlines() == [lines[row] for row in chosen]
    assert command("run", "mine,shapes=talks", *run) == 0
    assert command("select", tmp_path / "run", "--budget", "4") == 0
    capsys.readouterr()
    info = json.loads((folder / "dataset_info.json").read_text())
    info["talks"]["tags"]["user_tag"] = "answerer"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert command("run", "mine,shapes=talks", *run) == 2
    assert "data_sets" in capsys.readouterr().err


def test_one_name_and_extended_by_another(folder, tmp_path, checkpoints, pictures):
    words = {"dataset_info": str(folder), "images": str(pictures[0].parent)}
    result = scalselect.run("talks", **words, model=checkpoints("llava"), budget=3, output=tmp_path / "run")
    assert len(result.rows) == 3
    extended = scalselect.extend(tmp_path / "run", "mine", **words)
    assert [segment.source for segment in extended.segments] == ["mine"]
    assert scores_of(tmp_path / "run")["status"] == ["scored"] * 13


def test_names_that_are_none(folder, tmp_path, checkpoints):
    run = {"model": checkpoints("llava"), "budget": 3, "output": tmp_path / "run", "dataset_info": str(folder)}
    with pytest.raises(scalselect.MisuseError, match="no data set of that name in"):
        scalselect.run("talk", **run)
    with pytest.raises(scalselect.MisuseError, match="given by their names"):
        scalselect.run([{"conversations": []}], **run)
    assert not (tmp_path / "run").exists()

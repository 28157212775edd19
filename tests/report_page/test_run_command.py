"""The commands of a run, rebuilt: read by the command line they mean what run.json says."""

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from scalselect.command_options import parse_words
from scalselect.config import RepresentConfig, ScoreConfig, SelectConfig, select_config
from scalselect.report_page.run_command import commands_of
from scalselect.trainers import preset

DATA = {
    "images": "/data/im ages",
    "rows": 10,
    "shard_size": 1000,
    "data_sha256": "0",
    "data_bytes": 1,
    "data_records": 10,
}


def run_json(represent=None, score=None, select=None, **changes):
    known = {
        **asdict(RepresentConfig()),
        **DATA,
        "data_format": "llava",
        "dtype": "float32",
        "threads": 2,
        "max_rows": None,
    }
    chosen = asdict(select_config({"budget": "16%", **(select or {})}))
    return {
        "represent": {**known, "image_fit": "processor", **(represent or {})},
        "score": {**asdict(ScoreConfig()), **(score or {})},
        "select": {**chosen, "budget": (select or {}).get("budget", "16%"), "lists": {}},
        "data": {"path": "/data/po'ol.json", "source": "pool"},
        "model": "owner/model",
        "chat_template": None,
        **changes,
    }


def parsed(line):
    words = shlex.split(line.replace("\\\n", " "))
    assert words[0] == "scalselect"
    return parse_words(words[1:])


def commands(run, selection=None):
    return commands_of(run, Path("/runs/a b"), {} if selection is None else selection)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"represent": {"exif": "apply", "layer": 3, "allow_remote_images": True, "confine_images": False}},
        {"score": {"rank": 7, "centring": "off"}},
        {"select": {"budget": "5%,5000", "deduplicate": "near", "max_per_image": 2, "stratify_by": "it's source"}},
        {"select": {"seed": 4, "strategy": "half", "near_bound": 0.9}},
    ],
)
def test_the_command_means_what_was_recorded(options):
    run = run_json(**options)
    (line,) = commands(run).lines
    found = vars(parsed(line))
    assert (found["command"], found["dataset"], found["model"]) == ("run", ["/data/po'ol.json"], "owner/model")
    assert (found["images"], found["output"]) == ("/data/im ages", "/runs/a b")
    given = {name: value for name, value in found.items() if value is not None}
    for group, recorded in (
        (ScoreConfig, run["score"]),
        (SelectConfig, run["select"]),
        (RepresentConfig, run["represent"]),
    ):
        for name in group.__dataclass_fields__:
            if name in {"images", "limit", "format", "shard_size"}:
                continue
            default = group.__dataclass_fields__[name].default
            assert str(given.get(name, default)) == str(recorded[name]), name
    assert set(given) - {"command", "dataset", "model", "output", "json"} <= {
        *RepresentConfig.__dataclass_fields__,
        *ScoreConfig.__dataclass_fields__,
        *SelectConfig.__dataclass_fields__,
    }


def test_what_a_trainer_stands_for_is_not_repeated():
    run = run_json(represent={**preset("llava"), "like": "llava"}, chat_template=preset("llava").get("chat_template"))
    (line,) = commands(run).lines
    assert "--like llava" in line
    assert "--max-length" not in line
    assert "--image-position" not in line


def test_several_data_sets_and_one_that_was_added():
    segments = [
        {
            **DATA,
            "path": f"/data/{name}.json",
            "source": name,
            "first_row": i * 10,
            "first_shard": i,
            "data_format": "llava",
        }
        for i, name in enumerate(("a", "b c", "later"))
    ]
    run = run_json(represent={"data_sets": [{}, {}]}, segments=segments)
    first, second = commands(run).lines
    assert parsed(first).dataset == ["a=/data/a.json,images=/data/im ages", "b c=/data/b c.json,images=/data/im ages"]
    assert vars(parsed(second)) | {"json": False} == {
        **vars(parsed(second)),
        "command": "extend",
        "run_dir": "/runs/a b",
        "new_data": ["later=/data/later.json,images=/data/im ages"],
    }


def test_stages_that_were_not_done_are_not_told():
    run = run_json()
    represent, score = commands_of(run, Path("r"), None).lines
    assert parsed(represent).command == "represent"
    assert parsed(score).command == "score"
    (represent,) = commands_of({**run, "score": None}, Path("r"), None).lines
    assert parsed(represent).command == "represent"


def test_what_cannot_be_told_is_said():
    found = commands(run_json(data={"path": None, "source": "records"}, model=None))
    assert "DATASET --model MODEL" in found.lines[0]
    assert any("Python object" in note for note in found.notes)
    run = run_json()
    run["select"]["exclude_rows"] = "a list"
    found = commands(run)
    assert "exclude-rows" not in found.lines[0]
    assert any("exclude_rows" in note for note in found.notes)


def test_vectors_made_elsewhere():
    run = {
        "represent": {"representations": "my vectors.npy", "rows": 5},
        "score": {"energy": 0.8},
        "select": {"budget": "3"},
    }
    score, select = commands(run).lines
    assert parsed(score).representations == "my vectors.npy"
    assert parsed(score).energy == 0.8
    assert parsed(select).budget == "3"


@pytest.mark.parametrize(("percent", "told"), [(0.0, None), (5.0, None), (5.1, "6%"), (37.0, "37%")])
def test_more_skipped_rows_than_usual_are_allowed(percent, told):
    run = run_json()
    (line,) = commands_of(run, Path("/runs/a"), {}, skipped_percent=percent).lines
    assert ("--max-skipped" in line) == (told is not None)
    if told:
        assert f"--max-skipped {told}" in line
        assert parsed(line).max_skipped == told


def test_the_run_folder_is_named_from_the_root_on():
    (line,) = commands_of(run_json(), Path("runs/a"), {}).lines
    assert f"--output {Path('runs/a').absolute()}" in line

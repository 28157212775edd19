"""`check` from end to end: exit codes, JSON and table, processes that die, and agreement with what a run does."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

import scalselect
from build_demo import build_demo
from scalselect import check_work, checking
from scalselect.dataset.image_outcomes import DecodeImages
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.validation import RowChecker
from scalselect.engines.processes import can_fork, mark
from scalselect.errors import OptionError
from scalselect.failures import SAMPLE_MEMORY_ADVICE as ADVICE
from scalselect.image_files import PictureView
from scalselect.progress import Silent
from small_pools import command, record, write_pool


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    build_demo(folder, 60)
    return folder


def checked_as_json(capsys, *words):
    capsys.readouterr()
    code = command("check", *words, "--json")
    return code, json.loads(capsys.readouterr().out)


def test_a_clean_set_ends_with_an_estimate(tmp_path, pictures, capsys):
    data = write_pool(tmp_path, pictures, rows=12)
    assert command("check", data) == 0
    shown = capsys.readouterr().out
    assert "problems   none" in shown
    assert "estimate" in shown
    assert max(map(len, shown.splitlines())) <= 80
    result = scalselect.check(data)
    assert result.ok
    assert result.estimate["bytes"] >= 12 * 4096 * 4
    assert result.counts["image_bytes"] == sum(Path(pictures[row % len(pictures)]).stat().st_size for row in range(12))


def test_problems_are_listed_and_the_exit_code_is_1(demo, capsys):
    code, content = checked_as_json(capsys, demo / "pool.json")
    assert code == 1
    assert [(problem["id"], problem["kind"]) for problem in content["problems"]] == [
        ("odd-missing-image", "image_missing"),
        ("odd-too-many-markers", "marker_mismatch"),
        ("odd-broken-image", "image_unreadable"),
    ]
    assert content["problems_found"] == 3
    assert not content["ok"]
    assert content["estimate"] is None
    assert command("check", demo / "pool.json") == 1
    shown = capsys.readouterr().out
    for problem in content["problems"]:
        assert f"row {problem['row']} (id {problem['id']})" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_many_problems_are_counted_and_a_few_shown(tmp_path, capsys):
    data = tmp_path / "pool.json"
    data.write_text(json.dumps([record(row, f"gone-{row}.png") for row in range(300)]), encoding="utf-8")
    result = scalselect.check(data)
    assert result.problems == 300
    assert len(result.examples) == 100
    assert command("check", data) == 1
    shown = capsys.readouterr().out
    assert "image_missing                      300  skipped" in shown
    assert "295 more; --json lists all" in shown
    _, content = checked_as_json(capsys, data)
    assert [problem["row"] for problem in content["problems"]] == list(range(300))


@pytest.mark.parametrize(
    ("like", "effect"), [("llamafactory", "stops the run"), ("ms-swift", "replaced"), ("trl", "stops the run")]
)
def test_of_broken_images_and_of_long_rows_the_trainer_s_effect_is_told(demo, like, effect):
    found = scalselect.check(demo / "pool.json", model=demo / "checkpoint", like=like, max_length=40)
    effects = {kind["kind"]: kind["effect"] for kind in found.kinds}
    assert {effects[kind] for kind in ("image_missing", "image_unreadable", "too_long")} == {effect}


def test_for_trl_the_export_is_judged(tmp_path, pictures):
    turns = [{"role": "human", "content": "<image>Which?"}, {"role": "gpt", "content": "A cat."}]
    several = [
        {"id": 1, "messages": turns, "images": pictures[0]},
        {"id": "x", "messages": turns, "images": pictures[:1]},
    ]
    found = scalselect.check(several, like="trl")
    assert found.ok, found.examples
    assert any("the export" in note and "not this file" in note for note in found.notes)


def test_content_in_parts_is_noted_for_ms_swift(pictures):
    parts = [{"type": "image"}, {"type": "text", "text": "Which?"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
    data = [{"messages": turns, "images": pictures[:1]}]
    assert any("1 row with content in parts" in note for note in scalselect.check(data, like="ms-swift").notes)
    assert not any("content in parts" in note for note in scalselect.check(data, like="trl").notes)


@pytest.mark.parametrize("decode", ["on", "off"])
@pytest.mark.parametrize("processes", [0, 1, 2, 16])
def test_no_process_waits_long_for_another(decode, processes):
    most = {"on": 128, "off": 2048}[decode]
    for rows in (0, 1, 200, 10_000, 10**7):
        task = checking.rows_a_task(rows, processes, decode)
        assert 1 <= task <= most
        if rows >= 10_000 and processes:
            assert rows / task >= 2 * processes
    assert checking.rows_a_task(200, 2, "on") <= 25


def test_the_number_of_processes_changes_nothing(demo):
    def facts(processes):
        told = []
        result = scalselect.check(
            demo / "pool.json", like="llava", on_problem=told.append, dataloader_workers=processes
        )
        return told, result.counts, result.kinds, result.notes

    assert facts(0) == facts(1) == facts(3)


def test_several_data_sets_with_folders_of_their_own(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / f"{name}.png")
        (tmp_path / f"{name}.json").write_text(
            json.dumps([record(0, "a.png"), record(1, "b.png"), name]), encoding="utf-8"
        )
    words = [f"{name}={tmp_path / name}.json,images={tmp_path / name}" for name in ("a", "b")]
    code, content = checked_as_json(capsys, *words, "--like", "llamafactory")
    assert code == 1
    told = [(problem["source"], problem["row"], problem["id"]) for problem in content["problems"]]
    assert told == [("a", 1, "row-1"), ("a", 2, None), ("b", 3, "row-0"), ("b", 5, None)]
    assert [data_set["name"] for data_set in content["data_sets"]] == ["a", "b"]
    assert any("2 ids stand in several rows, 4 rows in all" in note for note in content["notes"])


def test_problems_of_a_whole_file_come_last_and_without_a_row(tmp_path, pictures, capsys):
    data = tmp_path / "pool.jsonl"
    lines = [{**record(0, pictures[0]), "id": 1}, {**record(1, pictures[0]), "id": "007"}]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, content = checked_as_json(capsys, data, "--like", "llamafactory")
    assert code == 1
    (problem,) = content["problems"]
    assert (problem["row"], problem["kind"], problem["source"]) == (None, "mixed_id_types", "pool")
    assert command("check", data, "--like", "llamafactory") == 1
    assert "  pool: `id` is a number in row 0, a string in row 1" in capsys.readouterr().out
    assert checked_as_json(capsys, data, "--like", "llava")[1]["problems"][0]["kind"] == "container_not_read"
    lists = [{**record(row, pictures[0]), "image": [str(pictures[0])]} for row in range(3)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines + lists), encoding="utf-8")
    kinds = [kind["kind"] for kind in scalselect.check(data, like="llava").kinds]
    assert kinds == ["container_not_read", "image_list"]  # one before three: it is the cause that all rows share
    assert command("check", data, "--like", "ms-swift") == 0


@pytest.mark.skipif(not can_fork, reason="processes are forked on Linux alone")
def test_a_decoder_that_crashes_or_hangs_costs_its_row_alone(tmp_path, pictures):
    class Crashes(DecodeImages):
        def __call__(self, samples, pool, mark):
            for sample in samples:
                mark(sample.identity.row)
                if sample.identity.row in faults:
                    faults[sample.identity.row]()
                yield from super().__call__([sample], pool, mark)

    faults = {
        3: lambda: time.sleep(1e6),
        17: lambda: os.kill(os.getpid(), signal.SIGSEGV),
        18: lambda: os.kill(os.getpid(), signal.SIGKILL),
        39: lambda: os._exit(1),
    }

    pool = JoinedPool([open_pool(write_pool(tmp_path, pictures, rows=40))])
    found = check_work.check_rows(
        pool,
        RowChecker(pool, Crashes(PictureView()), None, mark),
        like=None,
        processes=2,
        seconds=0.5,
        rows_a_task=8,
        keep=5,
        on_problem=lambda _problem: None,
        progress=Silent(),
    )
    assert [(problem.row, problem.kind, problem.detail) for problem in found.examples] == [
        (3, "preparation_timed_out", "it took longer than 0.5 seconds (sample_seconds) to be made ready"),
        (17, "preparation_crashed", "its process died of SIGSEGV while it was made ready"),
        (18, "out_of_memory", f"its process died of SIGKILL, as happens where memory runs out: {ADVICE}"),
        (39, "preparation_crashed", "its process ended with exit code 1 while it was made ready"),
    ]
    assert found.counts["rows"] == 40


@pytest.mark.parametrize("max_length", [None, 78, 90, 70])
def test_with_a_model_it_foretells_what_a_run_does(demo, tmp_path, max_length):
    """Second road: the rows of a run with the same options."""
    limit = [] if max_length is None else ["--max-length", max_length]
    words = ["--model", demo / "checkpoint", *limit, "--like", "ms-swift"]
    run = tmp_path / "run"
    assert command("represent", demo / "pool.json", *words, "--output", run, "--max-skipped", "100%") == 0
    rows = pq.read_table(run / "representations" / "shard-0000000.rows.parquet").to_pylist()
    told = []
    result = scalselect.check(
        demo / "pool.json",
        model=demo / "checkpoint",
        like="ms-swift",
        on_problem=told.append,
        **({} if max_length is None else {"max_length": max_length}),
    )
    reasons = {row["row"]: (row["reason"], row["detail"]) for row in rows if row["status"] == "skipped"}
    own = {str(reason) for reason in scalselect.Reason}
    assert {problem.row: (problem.kind, problem.detail) for problem in told if problem.kind in own} == reasons
    assert result.counts["truncated"] == sum(row["truncated"] for row in rows)
    if max_length is None:
        lengths = sorted(row["tokens"] for row in rows if row["tokens"] is not None)
        assert (result.lengths["tokens"]["0%"], result.lengths["tokens"]["100%"]) == (lengths[0], lengths[-1])
        assert result.lengths["vision_tokens"]["50%"] == 64


def test_the_lengths_are_those_before_a_cut(demo):
    whole = scalselect.check(demo / "pool.json", model=demo / "checkpoint")
    cut = scalselect.check(demo / "pool.json", model=demo / "checkpoint", max_length=90)
    assert cut.lengths == whole.lengths
    assert cut.counts["truncated"] > whole.counts["truncated"] == 0


def test_a_loaded_processor_is_enough_beside_its_model(demo):
    from direct_reference import load_reference

    model, processor = load_reference(demo / "checkpoint")
    given = scalselect.check(demo / "pool.json", model=model, processor=processor)
    assert given.lengths == scalselect.check(demo / "pool.json", model=demo / "checkpoint").lengths
    with pytest.raises(OptionError, match="needs its processor"):
        scalselect.check(demo / "pool.json", model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode": "of"}, r"decode must be one of on, off: 'of'"),
        ({"max_length": 5}, "max_length has an effect with a model only"),
        ({"decode": "off", "exif": "apply"}, "exif has no effect where no image is decoded"),
        ({"image_max_pixels": 500}, "image_max_pixels is the processor's limit: give model as well, or image_resize"),
        ({"budget": "5%"}, "check has no option `budget`"),
        ({"exfi": "apply"}, r"check has no option `exfi` \(did you mean `exif`\?\)"),
        ({"decode": "off", "model": "x"}, "a model needs decoded images"),
    ],
)
def test_options_that_would_do_nothing_are_refused(demo, options, message):
    with pytest.raises(OptionError, match=message):
        scalselect.check(demo / "pool.json", **options)


def test_options_of_the_command_line_are_those_of_the_function():
    from scalselect import command_options

    assert sorted(command_options._OF_CHECK) == sorted(checking.OPTIONS)


def test_nothing_is_written(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("check", demo / "pool.json")
    assert list(tmp_path.iterdir()) == []

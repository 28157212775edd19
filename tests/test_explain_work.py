"""A run ends with what the instructions of the rows that a report shows attend to; nothing there fails it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

import scalselect
from direct_reference import MASS_TOLERANCE, load_reference, reference_row
from scalselect import explain_work
from scalselect.dataset.opening import open_pool
from scalselect.errors import OptionError, ScalselectWarning
from scalselect.explanations_file import read_explanations
from scalselect.report_page.shown_rows import explained_rows
from scalselect.run_folder import RunFolder
from small_pools import command, promised_files, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")

ROWS = 14
NAME = "explanations.safetensors"
OPTIONS = ["--shard-size", "5", "--budget", "40%"]


@pytest.fixture
def words(tmp_path, pictures, checkpoints):
    """Return the words of a run, but for its folder."""
    return ["run", write_pool(tmp_path / "data", pictures, rows=ROWS), "--model", checkpoints("llava"), *OPTIONS]


@pytest.fixture
def run(tmp_path, words):
    """Return the folder of a finished run."""
    assert command(*words, "--output", tmp_path / "run") == 0
    return tmp_path / "run"


@pytest.fixture
def explained(monkeypatch):
    """Return a list of the samples that go through the model for the report, as they go."""
    seen, explain = [], explain_work.explain_sample

    def counting(checkpoint, sample, pooling):
        seen.append(sample)
        return explain(checkpoint, sample, pooling)

    monkeypatch.setattr(explain_work, "explain_sample", counting)
    return seen


def known(run_dir):
    return read_explanations(run_dir / NAME)[0]


def rows_table(run_dir):
    paths = sorted((run_dir / "representations").glob("*.rows.parquet"))
    return {line["row"]: line for path in paths for line in pq.read_table(path).to_pylist()}


def wanted(run_dir, most=200):
    return explained_rows(pq.read_table(run_dir / "scores.parquet"), most).tolist()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "internvl"])
@pytest.mark.parametrize("definition", ["user", "non-assistant"])
def test_attention_is_the_full_models_and_kept_tokens_are_the_runs(tmp_path, pictures, checkpoints, family, definition):
    data, out = write_pool(tmp_path / "data", pictures, rows=8), tmp_path / "run"
    more = ["--instruction-tokens", definition, "--budget", "3", "--output", out]
    assert command("run", data, "--model", checkpoints(family), *more) == 0
    explanations, inputs = read_explanations(out / NAME)
    assert inputs["store"] == RunFolder(out).store.digest(range(1))
    assert list(explanations.rows) == wanted(out) == list(range(8))
    assert (explanations.missing, explanations.boxes_unknown) == ({}, None)
    model, processor = load_reference(checkpoints(family))
    samples, table = open_pool(data).samples_at(range(8)), rows_table(out)
    for sample, (row, found) in zip(samples, explanations.rows.items(), strict=True):
        expected = reference_row(model, processor, family, sample, instruction_tokens=definition)
        np.testing.assert_allclose(found.attention, expected.share, atol=MASS_TOLERANCE)
        assert found.attention.sum() == pytest.approx(1, abs=1e-5)
        assert found.kept.sum() == table[row]["kept_tokens"]
        assert expected.vision_positions[found.kept].tolist() == expected.kept.tolist()
        assert len(found.boxes) == len(found.image) == table[row]["vision_tokens"]
        assert not np.isnan(found.boxes).any()


def test_other_attention_mass(tmp_path, words):
    assert command(*words, "--attention-mass", "0.5", "--output", tmp_path / "run") == 0
    found, table = known(tmp_path / "run"), rows_table(tmp_path / "run")
    for row, one in found.rows.items():
        assert one.kept.sum() == table[row]["kept_tokens"]
        assert one.attention[one.kept].sum() > 0.5


def test_nothing_is_done_twice(run, words, explained):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert command(*words, "--output", run) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert explained == []


def test_a_run_that_died_before_the_file_was_there_makes_it(run, words, explained):
    content = (run / NAME).read_bytes()
    (run / NAME).unlink()
    assert command(*words, "--output", run) == 0
    assert (run / NAME).read_bytes() == content
    assert len(explained) == ROWS


def test_a_damaged_file_is_told_and_made_anew(run, words, capsys):
    content = (run / NAME).read_bytes()
    damaged = bytearray(content)
    damaged[-3] ^= 4
    (run / NAME).write_bytes(damaged)
    assert command(*words, "--output", run) == 0
    assert f"{NAME} is not what was written: made anew" in capsys.readouterr().err
    assert (run / NAME).read_bytes() == content


def test_fewer_rows_are_dropped_without_the_model(run, words, explained):
    assert command(*words, "--explanations", "5", "--output", run) == 0
    assert list(known(run).rows) == wanted(run, 5)
    assert len(known(run).rows) == 5
    assert explained == []


def test_only_rows_that_a_new_choice_shows_are_looked_at(tmp_path, words, explained, monkeypatch):
    """In a pool this small every row would be shown."""

    def last_chosen(table, most):
        return np.flatnonzero(table["selected"].to_numpy(zero_copy_only=False))[-most:]

    monkeypatch.setattr(explain_work, "explained_rows", last_chosen)
    run, words = tmp_path / "run", [*words, "--explanations", "4"]
    assert command(*words, "--output", run) == 0
    before = list(known(run).rows)
    assert len(before) == len(explained) == 4
    assert command("select", run, "--budget", "90%") == 0
    assert list(known(run).rows) == before  # left alone
    assert command(*words, "--budget", "90%", "--output", run) == 0
    after = list(known(run).rows)
    assert len(after) == 4
    assert len(explained) == 4 + len(set(after) - set(before)) < 8
    assert command(*words, "--budget", "90%", "--output", tmp_path / "other") == 0
    assert (run / NAME).read_bytes() == (tmp_path / "other" / NAME).read_bytes()


def test_scoring_anew_leaves_the_file_alone(run, words):
    content = (run / NAME).read_bytes()
    assert command("score", run, "--energy", "0.5") == 0
    assert (run / NAME).read_bytes() == content


def test_no_explanations(tmp_path, words, explained):
    assert command(*words, "--explanations", "0", "--output", tmp_path / "run") == 0
    assert not (tmp_path / "run" / NAME).exists()
    assert explained == []


@pytest.mark.parametrize("number", ["201", "-1", "many", "1.5"])
def test_impossible_numbers(tmp_path, words, capsys, number):
    assert command(*words, "--explanations", number, "--output", tmp_path / "run") == 2
    assert "explanations must be a whole number" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_representing_alone_knows_no_explanations(tmp_path, words, capsys):
    alone = ["represent", *words[1:4], "--output", tmp_path / "run"]
    assert command(*alone, "--explanations", "5") == 2
    assert "unrecognized arguments: --explanations" in capsys.readouterr().err
    with pytest.raises(OptionError, match="no effect on representing"):
        scalselect.represent(words[1], model=words[3], output=tmp_path / "run", explanations=5)
    assert command(*alone) == 0
    assert not (tmp_path / "run" / NAME).exists()


def test_a_pool_that_grew(tmp_path, run, words, explained):
    data = tmp_path / "new.json"
    data.write_text(json.dumps(json.loads(words[1].read_text())[:3]).replace("row-", "new-"))
    assert command("extend", run, data) == 0
    explanations, inputs = read_explanations(run / NAME)
    assert inputs["store"] == RunFolder(run).store.digest(range(4))
    assert list(explanations.rows) == wanted(run) == list(range(ROWS + 3))
    assert len(explained) == ROWS + 3  # the file belonged to other representations
    (run / NAME).unlink()
    assert command("extend", run, data, "--explanations", "4") == 0
    assert list(known(run).rows) == wanted(run, 4)


def test_growing_without_a_choice_knows_no_explanations(tmp_path, words, capsys):
    assert command("represent", *words[1:4], "--output", tmp_path / "run") == 0
    data = tmp_path / "new.json"
    data.write_text(json.dumps(json.loads(words[1].read_text())[:3]).replace("row-", "new-"))
    assert command("extend", tmp_path / "run", data, "--explanations", "4") == 2
    assert "no effect on a run that has no choice" in capsys.readouterr().err
    assert command("extend", tmp_path / "run", data) == 0
    assert not (tmp_path / "run" / NAME).exists()


def test_a_failure_is_a_warning_and_the_same_command_tries_again(tmp_path, words, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(explain_work, "explain_sample", lambda *_: 1 // 0)
        assert command(*words, "--output", tmp_path / "run") == 0
        said = capsys.readouterr().err
        assert "the report will not show what instructions attend to: ZeroDivisionError" in said
        assert "Traceback" not in said
    assert (tmp_path / "run" / "selection.json").exists()
    assert not (tmp_path / "run" / NAME).exists()
    assert command(*words, "--output", tmp_path / "run") == 0
    assert list(known(tmp_path / "run").rows) == list(range(ROWS))


def test_a_disk_that_refuses_the_file_is_a_warning(run, words, monkeypatch, capsys):
    (run / NAME).unlink()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_explanations", refuse)
    assert command(*words, "--output", run) == 0
    assert "No space left on device" in capsys.readouterr().err


def test_memory_that_runs_out_costs_one_row(tmp_path, words, monkeypatch):
    explain, calls = explain_work.explain_sample, []

    def scarce(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA out of memory")
        return explain(*arguments)

    monkeypatch.setattr(explain_work, "explain_sample", scarce)
    assert command(*words, "--output", tmp_path / "run") == 0
    assert known(tmp_path / "run").missing == {1: "memory ran out with this row alone"}
    assert len(known(tmp_path / "run").rows) == ROWS - 1


def test_images_that_changed_or_went(tmp_path, pictures, checkpoints, monkeypatch):
    """Between the scoring and the last pass, for which pictures are opened again."""
    own = [shutil.copy(picture, tmp_path) for picture in pictures[:3]]
    data = write_pool(tmp_path / "data", own, rows=6)
    inner = explain_work.explained_rows

    def meanwhile(*arguments):
        shutil.copy(pictures[3], own[0])
        (tmp_path / pictures[1].name).unlink()
        return inner(*arguments)

    monkeypatch.setattr(explain_work, "explained_rows", meanwhile)
    out = tmp_path / "run"
    assert command("run", data, "--model", checkpoints("llava"), "--budget", "2", "--output", out) == 0
    found = known(out)
    assert list(found.rows) == [2, 5]
    assert {row for row, why in found.missing.items() if "no longer those that were scored" in why} == {0, 3}
    assert {row for row, why in found.missing.items() if why.startswith("image_missing: ")} == {1, 4}


def test_where_every_token_counts_alike_there_is_nothing_to_explain(tmp_path, words, explained):
    assert command(*words, "--pooling", "all", "--output", tmp_path / "run") == 0
    assert known(tmp_path / "run").rows == {}
    assert list(known(tmp_path / "run").missing) == list(range(ROWS))
    assert all("--pooling all" in why for why in known(tmp_path / "run").missing.values())
    assert explained == []


def test_a_family_whose_places_are_not_known(tmp_path, words, checkpoints):
    other = [*words[:3], checkpoints("idefics2"), *words[4:]]
    assert command(*other, "--output", tmp_path / "run") == 0
    found = known(tmp_path / "run")
    assert "`idefics2`" in found.boxes_unknown
    assert all(np.isnan(one.boxes).all() and (one.image == -1).all() for one in found.rows.values())
    assert all(one.attention.sum() == pytest.approx(1, abs=1e-5) for one in found.rows.values())


def test_a_loaded_model_is_used_and_given_back(tmp_path, words, run):
    model = AutoModelForImageTextToText.from_pretrained(words[3]).train()
    processor = AutoProcessor.from_pretrained(words[3])
    attention = model.config.get_text_config()._attn_implementation
    options = {"shard_size": 5, "budget": "40%", "output": tmp_path / "other"}
    scalselect.run(words[1], model=model, processor=processor, **options)
    for row, one in known(tmp_path / "other").rows.items():
        np.testing.assert_array_equal(one.attention, known(run).rows[row].attention)
    assert model.training
    assert model.config.get_text_config()._attn_implementation == attention


def test_python_is_warned_as_well(tmp_path, words, monkeypatch):
    monkeypatch.setattr(explain_work, "explain_sample", lambda *_: 1 // 0)
    with pytest.warns(ScalselectWarning, match="ZeroDivisionError"):
        scalselect.run(words[1], model=words[3], budget=3, output=tmp_path / "run")


def test_records_of_a_list(tmp_path, words):
    records = json.loads(words[1].read_text())
    scalselect.run(records, model=words[3], budget=3, output=tmp_path / "run")
    assert list(known(tmp_path / "run").rows) == list(range(ROWS))


def test_of_many_rows_at_most_so_many_are_wanted():
    ranks = np.random.default_rng(0).permutation(5000) + 1
    table = pa.table(
        {
            "rank": ranks,
            "leverage_score": 1 / ranks,
            "status": ["scored"] * 5000,
            "reason": pa.nulls(5000, pa.string()),
            "selected": ranks <= 1000,
        }
    )
    rows = explained_rows(table)
    assert len(rows) == len(set(rows.tolist())) == 200
    assert (np.diff(rows) > 0).all()
    assert sorted(ranks[rows]) == [*range(1, 51), *range(951, 1051), *range(4951, 5001)]
    assert len(explained_rows(table, 7)) == 7


@pytest.mark.slow
def test_two_processes_end_with_the_same_file(tmp_path, run, words):
    line = [sys.executable, "-m", "scalselect", *map(str, words), "--output", str(tmp_path / "shared")]
    both = [subprocess.Popen(line) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    assert promised_files(tmp_path / "shared") == promised_files(run)

"""A run stopped at any moment and started again ends with the same files as one never stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from scalselect import sample_work, storage
from scalselect.errors import ShardError
from scalselect.representation_store import RepresentationStore
from scalselect.run_folder import RunFolder
from scalselect.vlm import window
from small_pools import command, promised_files, scores_of, write_pool

OPTIONS = ["--budget", "50%", "--shard-size", "5"]


@pytest.fixture
def words(tmp_path, pictures, checkpoints):
    """Return a function (output) -> the words of a run over 17 rows in four shards."""
    data = write_pool(tmp_path / "data", pictures, rows=17)

    def run(output):
        return ["run", data, "--model", checkpoints("llava"), *OPTIONS, "--output", output]

    return run


class _Death(BaseException):
    """Nothing catches it: the process is gone."""


def test_death_at_every_write_leaves_a_run_that_continues(tmp_path, words, monkeypatch):
    assert command(*words(tmp_path / "whole")) == 0
    expected = promised_files(tmp_path / "whole")
    assert len(expected) == 2 * 4 + 6
    moments = 0
    while not _dies_at(moments, words(tmp_path / f"died-{moments}"), monkeypatch):
        out = tmp_path / f"died-{moments}"
        assert command(*words(out)) == 0, moments
        assert promised_files(out) == expected, moments
        moments += 1
    # Every file is written and flushed, then its folder: two moments a write.
    assert moments == 2 * (1 + 4 * 3 + 10)


@pytest.mark.parametrize(
    "again",
    [
        ["score", "--energy", "0.5"],
        ["select", "--budget", "3"],
        ["select", "--budget", "3,20%", "--strategy", "half", "--deduplicate", "near"],
    ],
)
def test_death_while_scoring_or_selecting_anew(tmp_path, words, monkeypatch, again):
    """Whatever is asked next, scores and choice belong together, and the first command's files can be had again."""
    stage, *options = again
    assert command(*words(tmp_path / "whole")) == 0
    expected = promised_files(tmp_path / "whole")
    moments = 0
    while True:
        out = shutil.copytree(tmp_path / "whole", tmp_path / f"died-{moments}")
        if _dies_at(moments, [stage, out, *options], monkeypatch):
            break
        if command("select", out, "--budget", "4") == 0:
            summary = json.loads((out / "selection.json").read_text())
            assert sum(scores_of(out)["selected"]) == 4
            assert sum(scores_of(out)["leverage_score"]) == pytest.approx(summary["subspace"]["k"], abs=1e-8)
            assert summary["subspace"]["energy"] >= summary["inputs"]["score"]["energy"]
        assert command(stage, out, *options) == 0, moments
        assert command(*words(out)) == 0, moments
        assert promised_files(out) == expected, moments
        moments += 1
    assert moments > 4


def _dies_at(moment, words, monkeypatch):
    """Run a command that dies at the n-th flush, as by SIGKILL: nothing is cleaned up. Return whether it lived."""
    flush, unlink, count, dead = os.fsync, Path.unlink, iter(range(10**6)), []

    def dying(descriptor):
        if next(count) == moment:
            dead.append(True)
            raise _Death
        flush(descriptor)

    monkeypatch.setattr(storage.os, "fsync", dying)
    monkeypatch.setattr(Path, "unlink", lambda path, **options: None if dead else unlink(path, **options))
    # The temporary files it leaves are those of a dead process.
    monkeypatch.setattr(storage.os, "getpid", lambda: 2**22 + 1)
    try:
        return command(*words) == 0
    except _Death:
        return False
    finally:
        monkeypatch.undo()


def test_interrupted_between_rows(tmp_path, words, monkeypatch, capsys):
    assert command(*words(tmp_path / "whole")) == 0
    capsys.readouterr()
    original, count = sample_work.open_image, iter(range(100))

    def interrupted(*arguments, **options):
        if next(count) == 8:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(sample_work, "open_image", interrupted)
    assert command(*words(tmp_path / "run")) == 130
    message = capsys.readouterr().err
    assert "scalselect run" in message.splitlines()[-1]
    assert str(tmp_path / "run") in message.splitlines()[-1]
    monkeypatch.undo()
    assert command(*words(tmp_path / "run")) == 0
    assert promised_files(tmp_path / "run") == promised_files(tmp_path / "whole")


def test_a_finished_run_does_nothing(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert command(*words(out)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_budget_only_selects_again(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = promised_files(out)
    reports = {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()}
    subspace = (out / "subspace.safetensors").stat().st_mtime_ns
    again = words(out)
    again[again.index("50%")] = "3"
    assert command(*again) == 0
    assert sum(scores_of(out)["selected"]) == 3
    assert {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()} == reports
    assert (out / "subspace.safetensors").stat().st_mtime_ns == subspace
    assert command(*words(out)) == 0
    assert promised_files(out) == before


def test_another_energy_scores_and_selects_again(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    reports = {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()}
    before = scores_of(out)["leverage_score"]
    assert command(*words(out), "--energy", "0.5") == 0
    assert scores_of(out)["leverage_score"] != before
    assert {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()} == reports
    assert command(*words(tmp_path / "fresh"), "--energy", "0.5") == 0
    assert promised_files(out) == promised_files(tmp_path / "fresh")
    # `score` without an energy keeps the run's own.
    assert command("score", out) == 0
    assert scores_of(out)["leverage_score"] == scores_of(tmp_path / "fresh")["leverage_score"]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--attention-mass", "0.8", "attention_mass: 0.9 in the run folder, 0.8 in this call"),
        ("--instruction-tokens", "non-assistant", "instruction_tokens: 'user' in the run folder, 'non-assistant'"),
        ("--shard-size", "6", "shard_size: 5 in the run folder, 6 in this call"),
        ("--exif", "apply", "exif: 'ignore' in the run folder, 'apply' in this call"),
        ("--max-length", "500", "max_length: not given in the run folder, 500 in this call"),
        ("--batch-size", "2", "max_rows: not given in the run folder, 2 in this call"),
        ("--dtype", "bfloat16", "dtype: 'float32' in the run folder, 'bfloat16' in this call"),
        ("--chat-template", "vicuna", "model_chat_template: "),
    ],
)
def test_other_options_on_the_same_folder_are_refused(tmp_path, words, capsys, option, value, named):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    assert command(*words(out), option, value) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count(" in this call") == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_other_data_are_refused(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    data = tmp_path / "data" / "pool.json"
    data.write_text(data.read_text() + "\n")
    assert command(*words(out)) == 2
    message = capsys.readouterr().err
    assert re.search(r"data_sha256: '\w{64}' in the run folder, '\w{64}' in this call", message)
    assert re.search(r"data_bytes: \d+ in the run folder, \d+ in this call", message)
    assert command("select", out, "--budget", "2") == 2
    assert "have changed" in capsys.readouterr().err


def test_another_model_is_refused(tmp_path, pictures, checkpoints, capsys):
    model = shutil.copytree(checkpoints("llava"), tmp_path / "model")
    data = write_pool(tmp_path / "data", pictures)
    words = ["run", data, "--model", model, *OPTIONS, "--output", tmp_path / "run"]
    assert command(*words) == 0
    tensors = load_file(model / "model.safetensors")
    tensors[next(name for name in tensors if name.endswith("multi_modal_projector.linear_1.bias"))] += 0.01
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert command(*words) == 2
    assert re.search(r"model_weights: '\w{64}' in the run folder, '\w{64}' in this call", capsys.readouterr().err)


def test_a_score_without_a_choice_leaves_no_old_choice_behind(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    assert command("score", out, "--energy", "0.5") == 0
    assert not (out / "selection.json").exists()
    assert not (out / "selected.json").exists()
    assert set(scores_of(out)["selected"]) == {None}
    assert json.loads((out / "run.json").read_text())["select"] is None


def test_scores_of_other_representations_are_not_selected_from(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    scores = (out / "scores.parquet").read_bytes()
    for path in (out / "representations").glob("*.json"):
        path.unlink()
    store = RepresentationStore(out / "representations")
    other = tmp_path / "other"
    assert command(*words(other), "--attention-mass", "0.3") == 0
    for path in (other / "representations").iterdir():
        shutil.copy(path, out / "representations" / path.name)
    assert store.is_published(3)
    capsys.readouterr()
    assert command("select", out, "--budget", "3") == 2
    assert "scalselect score" in capsys.readouterr().err
    assert (out / "scores.parquet").read_bytes() == scores
    assert command("score", out) == 0
    assert command("select", out, "--budget", "50%") == 0
    assert scores_of(out) == scores_of(other)


def test_two_at_once_do_not_mix(tmp_path, words):
    """While one selects, the other waits for its claim; each leaves a whole choice."""
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    told, codes = [], []
    with RunFolder(out).claimed():
        thread = threading.Thread(target=lambda: codes.append(command("select", out, "--budget", "3")))
        thread.start()
        time.sleep(0.5)
        assert codes == []
        assert sum(scores_of(out)["selected"]) == 8
        with pytest.raises(_Death), RunFolder(out).claimed(lambda holder: _die(told, holder)):
            pass
    thread.join(timeout=60)
    assert codes == [0]
    assert sum(scores_of(out)["selected"]) == 3
    assert re.fullmatch(r".+, process \d+", told[0])


def _die(told, holder):
    told.append(holder)
    raise _Death


def test_a_data_file_that_changes_under_way_poisons_no_shard(tmp_path, words, monkeypatch, capsys):
    data, out = tmp_path / "data" / "pool.json", tmp_path / "run"
    assert command(*words(tmp_path / "whole")) == 0
    content, original, calls = data.read_bytes(), window.launch_batch, []

    def meddling(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            data.write_bytes(content.replace(b"red", b"RED"))
        return original(*arguments, **options)

    monkeypatch.setattr(window, "launch_batch", meddling)
    assert command(*words(out)) == 1
    assert "data file has changed" in capsys.readouterr().err
    assert len(list((out / "representations").glob("*.json"))) == 1
    monkeypatch.undo()
    data.write_bytes(content)
    assert command(*words(out)) == 0
    assert promised_files(out) == promised_files(tmp_path / "whole")


def test_one_sample_that_nobody_can_prepare_costs_itself_only(tmp_path, words, monkeypatch, capsys):
    original, count = sample_work.open_image, iter(range(1000))

    def failing(*arguments, **options):
        if next(count) == 7:
            raise IndexError("tuple index out of range at 0x7f00deadbeef")
        return original(*arguments, **options)

    monkeypatch.setattr(sample_work, "open_image", failing)
    assert command(*words(tmp_path / "run"), "--max-skipped", "20%") == 0
    assert scores_of(tmp_path / "run")["reason"][7] == "preparation_failed"
    detail = RepresentationStore(tmp_path / "run" / "representations").rows(1).to_pylist()[2]["detail"]
    assert detail == "IndexError: tuple index out of range at 0x..."

    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(sample_work, "open_image", exhausted)
    assert command(*words(tmp_path / "full"), "--max-skipped", "20%") == 1
    message = capsys.readouterr().err
    assert "memory ran out while row 0 was made ready" in message
    assert "--image-max-pixels" in message


def test_a_failed_shard_is_retried_then_counted(tmp_path, words, monkeypatch, capsys):
    original, attempts = window.launch_batch, []

    def failing(checkpoint, samples, *arguments, **options):
        attempts.append(len(samples))
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(window, "launch_batch", failing)
    assert command(*words(tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "4 of 4 shards failed" in message
    assert "fell off the bus" in message
    assert "Traceback" not in message
    assert len(attempts) == 3 * 4
    attempts.clear()

    def out_of_memory(checkpoint, samples, *arguments, **options):
        attempts.append(len(samples))
        if len(attempts) == 1:
            raise ShardError("memory ran out with a single sample: give --image-max-pixels")
        return original(checkpoint, samples, *arguments, **options)

    monkeypatch.setattr(window, "launch_batch", out_of_memory)
    assert command(*words(tmp_path / "run")) == 1
    assert "1 of 4 shards failed" in capsys.readouterr().err
    monkeypatch.undo()
    assert command(*words(tmp_path / "run")) == 0
    assert command(*words(tmp_path / "whole")) == 0
    assert promised_files(tmp_path / "run") == promised_files(tmp_path / "whole")


def test_bad_rows_are_told_in_the_same_bytes_wherever_the_data_lie(tmp_path, pictures, checkpoints):
    for place in ("a", "somewhere/else"):
        folder = tmp_path / place
        data = write_pool(folder, pictures)
        records = json.loads(data.read_text())
        for number, name in ((2, "missing.png"), (3, "broken.png"), (4, "folder")):
            records[number]["image"] = name
        data.write_text(json.dumps(records))
        (folder / "broken.png").write_bytes(b"no picture")
        (folder / "folder").mkdir()
        words = ["run", data, "--model", checkpoints("llava"), *OPTIONS, "--output", folder / "run"]
        assert command(*words, "--max-skipped", "50%") == 0
    assert promised_files(tmp_path / "a" / "run") == promised_files(tmp_path / "somewhere/else" / "run")


def test_exact_copies_tie_whatever_batch_they_fell_into(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path, pictures, rows=24)
    records = json.loads(data.read_text())
    for i in range(1, 24, 5):
        records[i] = records[1] | {"id": i}
    data.write_text(json.dumps(records))
    words = [
        "run",
        data,
        "--model",
        checkpoints("qwen3_vl", "large"),
        "--output",
        tmp_path / "run",
        "--shard-size",
        "7",
    ]
    assert command(*words, "--budget", "3") == 0
    scores = scores_of(tmp_path / "run")
    assert len({scores["leverage_score"][i] for i in range(1, 24, 5)}) == 1
    ranks = [scores["rank"][i] for i in range(1, 24, 5)]
    assert ranks == list(range(ranks[0], ranks[0] + 5))


def test_a_missing_shard_stops_scoring(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    (out / "representations" / "shard-0000002.json").unlink()
    assert command("score", out) == 1
    assert "1 of 4 shards are not represented yet (first: 2)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_real_signals(tmp_path, pictures, checkpoints, sent, code, workers):
    data = write_pool(tmp_path / "data", pictures, rows=3000)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "10%", "--shard-size", "100", "--threads", "1"]
    words += ["--dataloader-workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-m", "scalselect", *map(str, words), "--output", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "representations" / "shard-0000001.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(sent)
    _, message = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in message
    if sent != signal.SIGKILL:
        assert "The same command continues" in message
    assert command(*words, "--output", tmp_path / "run") == 0
    assert command(*words, "--output", tmp_path / "whole") == 0
    assert promised_files(tmp_path / "run") == promised_files(tmp_path / "whole")
    assert json.loads((tmp_path / "run" / "selection.json").read_text())["rows"]["selected"] == 300

"""A run stopped at any moment and started again ends with the same files as one never stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from scalselect import shard_work, storage
from scalselect.errors import ShardError
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
    assert len(expected) == 2 * 4 + 4
    flush = os.fsync
    moments = 0
    while True:
        out = tmp_path / f"died-{moments}"
        count = iter(range(10**6))

        def dying(descriptor, moments=moments, count=count):
            if next(count) == moments:
                raise _Death
            flush(descriptor)

        monkeypatch.setattr(storage.os, "fsync", dying)
        try:
            code = command(*words(out))
        except _Death:
            code = None
        monkeypatch.undo()
        if code == 0:
            break
        assert command(*words(out)) == 0, moments
        assert promised_files(out) == expected, moments
        moments += 1
    # Every file is written and flushed, then its folder: two moments a write.
    assert moments == 2 * (1 + 4 * 3 + 7)


def test_interrupted_between_rows(tmp_path, words, monkeypatch, capsys):
    assert command(*words(tmp_path / "whole")) == 0
    capsys.readouterr()
    original, count = shard_work.open_image, iter(range(100))

    def interrupted(*arguments, **options):
        if next(count) == 8:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(shard_work, "open_image", interrupted)
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
        ("--max-length", "500", "max_length: None in the run folder, 500 in this call"),
        ("--batch-size", "2", "max_rows: None in the run folder, 2 in this call"),
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


def test_a_damaged_shard_is_noticed_and_its_remedy_works(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    expected = promised_files(out)
    shard = out / "representations" / "shard-0000001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    (out / "scores.parquet").unlink()
    capsys.readouterr()
    assert command(*words(out)) == 1
    message = capsys.readouterr().err
    assert str(shard) in message
    remedy = re.search(r"delete (\S+) and run", message)[1]
    Path(remedy).unlink()
    assert command(*words(out)) == 0
    assert promised_files(out) == expected


def test_a_failed_shard_is_retried_then_counted(tmp_path, words, monkeypatch, capsys):
    original, attempts = shard_work.represent_samples, []

    def failing(checkpoint, samples, **options):
        attempts.append(len(samples))
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(shard_work, "represent_samples", failing)
    assert command(*words(tmp_path / "run")) == 1
    message = capsys.readouterr().err
    assert "4 of 4 shards failed" in message
    assert "fell off the bus" in message
    assert "Traceback" not in message
    assert len(attempts) == 3 * 4
    attempts.clear()

    def out_of_memory(checkpoint, samples, **options):
        attempts.append(len(samples))
        if len(attempts) == 1:
            raise ShardError("memory ran out with a single sample: give --image-max-pixels")
        return original(checkpoint, samples, **options)

    monkeypatch.setattr(shard_work, "represent_samples", out_of_memory)
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


def test_a_missing_shard_stops_scoring(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    (out / "representations" / "shard-0000002.json").unlink()
    assert command("score", out) == 1
    assert "1 of 4 shards are not represented yet (first: 2)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_real_signals(tmp_path, pictures, checkpoints, sent, code):
    data = write_pool(tmp_path / "data", pictures, rows=3000)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "10%", "--shard-size", "100", "--threads", "1"]
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

"""Shards that fail, are damaged, missing or changed under way: noticed, counted, and mended by the same command."""

import json

import pytest

from scalselect import sample_work
from scalselect.errors import ShardError
from scalselect.representation_store import RepresentationStore
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

"""What killed processes leave is removed at the next start, what others are writing is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import scalselect
from claiming import mark_elsewhere, mark_of_dead
from object_store import names_in, store
from scalselect import leftovers
from scalselect.leftovers import remove_leftovers, remove_leftovers_beside
from scalselect.process_mark import new_mark
from scalselect.remote_path import path_of
from scalselect.storage import publish_bytes, publish_stream
from scalselect.vlm import llava_composition
from small_pools import command, write_pool


def die_while_writing(path):
    """Let a process end in the middle of a write; return the temporary file it leaves."""
    code = (
        "import os, sys; from pathlib import Path; from scalselect.storage import publish_stream\n"
        "with publish_stream(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    (left,) = path.parent.iterdir()
    return left


def aged(path, hours):
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


def test_file_of_a_dead_process_is_removed_and_nothing_else(tmp_path):
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    left = die_while_writing(folder / "file")
    assert left.name.startswith(".file.part-")
    published = folder / "published"
    publish_bytes(published, b"content")
    aged(published, 100)
    elsewhere = folder / f".file.part-{mark_elsewhere()}"
    elsewhere.write_bytes(b"half")
    with publish_stream(folder / "mine") as stream:
        stream.write(b"mine")
        (mine,) = folder.glob(".mine*")
        aged(mine, 100)
        assert remove_leftovers(tmp_path) == 1
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == {published, elsewhere, mine}
    assert (folder / "mine").read_bytes() == b"mine"


def test_a_number_that_was_given_away_again_protects_no_file(tmp_path):
    mark = new_mark()
    if not mark.started:
        pytest.skip("the system does not tell when processes began")
    (tmp_path / f".x.part-{mark._replace(started=mark.started - 1)}").touch()
    (tmp_path / f".x.part-{mark}").touch()
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f".x.part-{mark}"]


def test_files_and_claims_of_other_machines_are_left_for_six_hours(tmp_path):
    (tmp_path / ".claims").mkdir()
    names = (".x.part-{}", ".claims/scoring@{}")
    old = [aged(publish(tmp_path / name.format(mark_elsewhere())), 6.1) for name in names]
    new = [aged(publish(tmp_path / name.format(mark_elsewhere())), 5.9) for name in names]
    assert remove_leftovers(tmp_path) == 2
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in new)
    assert len(list(tmp_path.iterdir())) == 2  # nothing of its own


def test_the_folder_of_claims_goes_with_the_last_of_them(tmp_path):
    (tmp_path / ".claims").mkdir()
    publish(tmp_path / ".claims" / f"shard-0000001@{mark_of_dead()}")
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def publish(path):
    publish_bytes(path, b"x")
    return path


def test_the_clock_is_that_of_the_file_system(tmp_path, monkeypatch):
    left = publish(tmp_path / f".x.part-{mark_elsewhere()}")
    monkeypatch.setattr(time, "time", lambda: 1e10)
    assert remove_leftovers(tmp_path) == 0
    now = left.stat().st_mtime
    monkeypatch.setattr(leftovers, "_now_at", lambda _folder: now + 7 * 3600)
    assert remove_leftovers(tmp_path) == 1


def test_writers_that_belong_to_another_user_live(tmp_path, monkeypatch):
    def refuse(_process, _signal):
        raise PermissionError

    left = die_while_writing(tmp_path / "file")
    monkeypatch.setattr(os, "kill", refuse)
    assert remove_leftovers(tmp_path) == 0
    assert left.exists()


@pytest.mark.parametrize("name", [".x.part-", ".x.part-1", ".x.part-host-notanumber-ab", ".x.part-a-b", "x.part-a-1-b"])
def test_names_that_only_look_alike_are_left_alone(tmp_path, name):
    aged(publish(tmp_path / name), 100)
    assert remove_leftovers(tmp_path) == 0
    assert (tmp_path / name).exists()


def test_nothing_to_remove_in_a_folder_that_does_not_exist(tmp_path):
    assert remove_leftovers(tmp_path / "nowhere") == 0
    assert remove_leftovers_beside(tmp_path / "nowhere" / "file") == 0


def test_beside_a_file_only_what_was_to_become_it(tmp_path):
    for name in ("out.json", "other.json"):
        publish(tmp_path / f".{name}.part-{mark_of_dead()}")
    folder = tmp_path / f".out.json.part-{mark_of_dead()}"
    publish_bytes_below(folder)
    assert remove_leftovers_beside(tmp_path / "out.json") == 2
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".other.json")


def publish_bytes_below(folder):
    (folder / "deep").mkdir(parents=True)
    publish_bytes(folder / "deep" / "file", b"x")


def test_in_a_bucket_claims_and_trials_of_the_dead(bucket):
    for mark in (mark_of_dead(), mark_elsewhere(), new_mark()):
        store().pipe_file(f"{bucket}/run/.claims/scoring@{mark}", b"")
        store().pipe_file(f"{bucket}/run/.trial-{mark}", b"")
    assert remove_leftovers(path_of(f"{bucket}/run")) == 2
    assert len(names_in(f"{bucket}/run")) == 4


def test_in_a_bucket_signs_of_life_of_claims_that_are_gone(bucket):
    """Their process was killed while it gave its claim up: the claim itself goes first."""
    for mark in (mark_of_dead(), mark_elsewhere()):
        store().pipe_file(f"{bucket}/run/.claims/scoring@{mark}.beat", b"1")
    living = new_mark()
    for ending in ("", ".beat"):
        store().pipe_file(f"{bucket}/run/.claims/scoring@{living}{ending}", b"1")
    assert remove_leftovers(path_of(f"{bucket}/run")) == 2
    assert sorted(name.rpartition("/")[2] for name in names_in(f"{bucket}/run")) == [
        f"scoring@{living}",
        f"scoring@{living}.beat",
    ]


@pytest.fixture
def run(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32))
    assert command("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "run") == 0
    return tmp_path / "run"


@pytest.mark.parametrize("words", [["score"], ["select", "--budget", "3"]])
def test_commands_remove_and_say_how_many(run, words, capsys):
    for name in (f".scores.parquet.part-{mark_of_dead()}", f"representations/.x.part-{mark_of_dead()}"):
        publish(run / name)
    capsys.readouterr()
    assert command(words[0], run, *words[1:]) == 0
    assert "removed from the run folder what killed processes had left: 2\n" in capsys.readouterr().err
    assert not list(run.rglob(".*"))
    assert command(words[0], run, *words[1:]) == 0
    assert "killed processes" not in capsys.readouterr().err


def test_exports_to_other_places_clean_beside_what_they_write(tmp_path, pictures, run):
    data = write_pool(tmp_path / "data", pictures, rows=20)
    scalselect.select(run, budget=3, dataset=data)
    (tmp_path / "exports").mkdir()
    publish(tmp_path / "exports" / f".x.jsonl.part-{mark_of_dead()}")
    scalselect.export(run, to="messages", output=tmp_path / "exports" / "x.jsonl", dataset=data)
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["x.jsonl"]


def test_composing_a_checkpoint_cleans_beside_it(tmp_path, monkeypatch):
    left = tmp_path / f".made.part-{mark_of_dead()}"
    left.mkdir()
    publish(left / "model.safetensors")
    monkeypatch.setattr(llava_composition, "write_tensors", lambda *_, **__: [])
    saved = type("Saved", (), {"save_pretrained": lambda _self, folder: publish(folder / "config.json")})()
    llava_composition._publish(tmp_path / "made", saved, saved, [])
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_others_may_remove_their_claims_meanwhile(tmp_path, monkeypatch):
    """The folder of claims goes with the last of them, at any moment."""
    half = tmp_path / f".vectors.part-{mark_of_dead()}"
    half.touch()
    claims = tmp_path / ".claims"
    claims.mkdir()
    scan = os.scandir

    def gone_meanwhile(place):
        if claims.is_dir() and os.fspath(place) == str(claims):
            claims.rmdir()
        return scan(place)

    monkeypatch.setattr(os, "scandir", gone_meanwhile)
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []

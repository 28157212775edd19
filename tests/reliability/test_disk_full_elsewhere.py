"""The disk is full where a checkpoint is composed, where temporary copies lie, and where the command prints to."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from filling_disks import assert_as_undisturbed, assert_told, contents

from llava_parts import build_parts
from object_store import store
from scalselect import local_copies
from scored_runs import clustered_vectors
from small_disks import PAGE, full_disk
from small_pools import command

ANEW = "nothing was written, the same command begins anew"


@pytest.fixture
def disk(request, tmp_path):
    with full_disk(getattr(request, "param", "disk"), tmp_path / "small") as disk:
        yield disk


@pytest.fixture
def temporary(disk, monkeypatch):
    """Let temporary files lie on the small disk."""
    folder = disk.folder / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(local_copies, "_folder", lambda: folder)
    monkeypatch.setattr(local_copies, "_kept", {})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["disk", "files"], indirect=True)
def test_composing_a_checkpoint(disk, tmp_path, capsys):
    """A checkpoint is there whole or not at all, wherever the room ends."""
    parts = build_parts(tmp_path / "parts")
    assert command(*parts.words(tmp_path / "whole")) == 0
    expected = contents(tmp_path / "whole")
    output, failures = disk.folder / "llava", 0
    disk.leave(0)
    while True:
        with disk.at_work():
            code = command(*parts.words(output))
        said = capsys.readouterr().err
        if code == 0:
            break
        assert code == 1, said
        assert "checkpoint cannot be written" in said
        assert ANEW in said
        assert "Traceback" not in said
        assert {path.name for path in disk.folder.iterdir()} <= {"filler"}
        disk.widen(16 * PAGE)
        failures += 1
    assert failures > 4
    assert contents(output) == expected


def test_no_room_for_temporary_files_to_unpack(disk, temporary, tmp_path, capsys):
    records = [{"id": row, "conversations": [{"from": "human", "value": "word " * 2000}]} for row in range(30)]
    path = tmp_path / "pool.json.gz"
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    disk.leave(20 * PAGE)
    assert command("check", path) == 1
    said = capsys.readouterr().err
    assert f"no room in {temporary} to unpack {path} (set TMPDIR to a folder with more room" in said
    assert "no space left on device" in said
    assert list(temporary.iterdir()) == []
    disk.release()
    command("check", path)
    assert "no room" not in capsys.readouterr().err


def test_no_room_for_copies_of_remote_files(disk, temporary, tmp_path, bucket, capsys):
    np.save(tmp_path / "X.npy", clustered_vectors(600))
    store().pipe_file(f"{bucket}/X.npy", (tmp_path / "X.npy").read_bytes())
    words = ["score", "--representations", f"{bucket}/X.npy", "--output"]
    disk.leave(5 * PAGE)
    assert command(*words, tmp_path / "run") == 1
    assert_told(capsys.readouterr().err, disk)
    assert not [path for path in temporary.rglob("*") if path.is_file()]
    disk.release()
    assert command(*words, tmp_path / "run") == 0
    assert command(*words, tmp_path / "whole") == 0
    assert_as_undisturbed(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("words", [["--version"], ["score", "--representations", "X.npy", "--output", "run"]])
def test_nowhere_to_print_to(tmp_path, words):
    np.save(tmp_path / "X.npy", clustered_vectors(20))
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "scalselect", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # with it, Python's parser hides that nothing was printed
        )
    assert ended.returncode == 1
    assert "printed: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert words == ["--version"] or (tmp_path / "run" / "scores.parquet").is_file()


def test_messages_that_nobody_can_read_end_no_work(tmp_path):
    """Where stderr leads to a full disk, the work is done all the same."""
    np.save(tmp_path / "X.npy", clustered_vectors(20))
    words = [sys.executable, "-m", "scalselect", "score", "--representations", "X.npy", "--output", "run"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, check=False, cwd=tmp_path)
        assert ended.returncode == 0
        assert b"20 rows" in ended.stdout
        wrong = subprocess.run([*words[:-1], "X.npy"], capture_output=False, stderr=full, check=False, cwd=tmp_path)
        assert wrong.returncode == 2

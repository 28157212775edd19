"""Local copies of remote files: made once, made again when the file has changed, gone when the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from object_store import store
from scalselect import local_copies
from scalselect.errors import DataChangedError
from scalselect.local_copies import local_copy, local_file, remove_local_copies, staged_file
from scalselect.remote_path import path_of


def test_copied_once_and_again_after_a_change(bucket):
    store().pipe_file(f"{bucket}/pool.json", b"[1]")
    first = local_copy(f"{bucket}/pool.json")
    assert first.name == "pool.json"
    assert first.read_bytes() == b"[1]"
    with first.open("rb") as held:
        assert local_copy(f"{bucket}/pool.json") == first
        store().pipe_file(f"{bucket}/pool.json", b"[2]")
        second = local_copy(f"{bucket}/pool.json")
        assert second.read_bytes() == b"[2]"
        assert not first.exists()
        assert held.read() == b"[1]"


def test_a_copy_that_somebody_removed_is_made_again(bucket):
    store().pipe_file(f"{bucket}/pool.json", b"[1]")
    local_copy(f"{bucket}/pool.json").unlink()
    assert local_copy(f"{bucket}/pool.json").read_bytes() == b"[1]"


def test_removed_on_request_and_copied_anew(bucket):
    store().pipe_file(f"{bucket}/pool.json", b"[1]")
    before = local_copy(f"{bucket}/pool.json")
    remove_local_copies()
    assert not before.parents[1].exists()
    again = local_copy(f"{bucket}/pool.json")
    assert again.read_bytes() == b"[1]"
    remove_local_copies()
    remove_local_copies()  # nothing is left
    assert not again.exists()


def test_missing_files_and_folders(bucket):
    store().pipe_file(f"{bucket}/folder/file", b"")
    with pytest.raises(FileNotFoundError):
        local_copy(f"{bucket}/gone")
    with pytest.raises(IsADirectoryError):
        local_copy(f"{bucket}/folder")


def test_a_file_that_changes_while_it_is_copied_is_not_used(bucket, monkeypatch):
    store().pipe_file(f"{bucket}/pool.json", b"[1]")
    versions = iter([("1",), ("2",)])
    monkeypatch.setattr(local_copies, "version_of", lambda _facts: next(versions))
    with pytest.raises(DataChangedError, match="while it was copied"):
        local_copy(f"{bucket}/pool.json")


def test_local_file_of_a_block(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"local")
    with local_file(tmp_path / "file") as path:
        assert path == tmp_path / "file"
    assert path.exists()
    store().pipe_file(f"{bucket}/file", b"remote")
    with local_file(path_of(f"{bucket}/file")) as path:
        assert path.read_bytes() == b"remote"
    assert not path.parent.exists()
    with staged_file() as path:
        path.write_bytes(b"x")
    assert not path.parent.exists()


def test_nothing_is_left_when_the_process_ends_and_children_remove_nothing(bucket, tmp_path):
    store().pipe_file(f"{bucket}/pool.json", b"[1]")
    code = (
        "import multiprocessing, sys, scalselect.local_copies as local_copies\n"
        "copy = local_copies.local_copy(sys.argv[1])\n"
        "child = multiprocessing.get_context('fork').Process(target=local_copies.atexit._run_exitfuncs)\n"
        "child.start(); child.join()\n"
        "print(copy, copy.read_bytes())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, f"{bucket}/pool.json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    copy, content = ended.stdout.split()
    assert content == "b'[1]'"
    assert Path(copy).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []

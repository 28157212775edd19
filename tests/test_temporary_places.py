"""Temporary files of killed processes go when the next process makes some; those of living ones and of others stay."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile

import pytest

from claiming import mark_elsewhere, mark_of_dead
from object_store import store
from scalselect import temporary_places
from scalselect.process_mark import mark_of, new_mark
from scalselect.temporary_places import removed_places, temporary_prefix


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder for temporary files, of a process that has made none so far."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary_places, "_swept", {})
    return tmp_path


def test_files_and_folders_of_the_dead_are_removed_once_and_counted_once(folder):
    dead = mark_of_dead()
    (folder / f"scalselect-{dead}-abc_123.json").write_text("x")
    (folder / f"scalselect-{dead}-xyz" / "deep").mkdir(parents=True)
    (folder / f"scalselect-{dead}-xyz" / "deep" / "file").write_text("x")
    stay = [
        f"scalselect-{new_mark()}-abc",
        f"scalselect-{mark_elsewhere()}-abc",
        "scalselect-traceback-abc.txt",
        f"scalselect-{dead}",
        f"other-{dead}-abc",
    ]
    for name in stay:
        (folder / name).write_text("x")
    assert removed_places() == 0
    prefix = temporary_prefix()
    assert sorted(path.name for path in folder.iterdir()) == sorted(stay)
    assert mark_of(prefix.removeprefix("scalselect-").removesuffix("-")).process == os.getpid()
    assert (removed_places(), removed_places()) == (2, 0)
    (folder / f"scalselect-{dead}-later").write_text("x")
    temporary_prefix()
    assert removed_places() == 0


def test_links_are_removed_and_not_followed_and_other_users_are_left_alone(folder, monkeypatch):
    (folder / "kept").mkdir()
    (folder / "kept" / "file").write_text("x")
    link = folder / f"scalselect-{mark_of_dead()}-abc"
    link.symlink_to(folder / "kept")
    temporary_prefix()
    assert not link.is_symlink()
    assert (folder / "kept" / "file").exists()
    link.symlink_to(folder / "kept")
    monkeypatch.setattr(temporary_places, "_swept", {})
    monkeypatch.setattr(os, "getuid", lambda: -1)
    temporary_prefix()
    assert link.is_symlink()


def test_a_folder_that_is_not_there_is_told_by_whoever_writes(folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))
    assert temporary_prefix().startswith("scalselect-")


def ended(code, *arguments, folder):
    environment = {**os.environ, "TMPDIR": str(folder)}
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


OPENING = """
import os, signal, sys
from scalselect.dataset.opening import open_pool
from scalselect.temporary_places import removed_places
pool = open_pool(sys.argv[1], format="llava")
assert len(pool) == 1
if sys.argv[2:]:
    os.kill(os.getpid(), signal.SIGKILL)
print(removed_places())
"""


def test_an_unpacked_file_of_a_killed_process(tmp_path):
    data, folder = tmp_path / "pool.json.gz", tmp_path / "temporary"
    folder.mkdir()
    data.write_bytes(gzip.compress(b'[{"conversations": []}]'))
    assert ended(OPENING, data, "die", folder=folder).returncode == -9
    assert len(list(folder.iterdir())) == 1
    later = ended(OPENING, data, folder=folder)
    assert (later.stdout, later.stderr) == ("1\n", "")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_copy_of_a_killed_process(tmp_path, bucket):
    store().pipe_file(f"{bucket}/pool.json", b'[{"conversations": []}]')
    assert ended(OPENING, f"{bucket}/pool.json", "die", folder=tmp_path).returncode == -9
    assert len(list(tmp_path.rglob("pool.json"))) == 1
    later = ended(OPENING, f"{bucket}/pool.json", folder=tmp_path)
    assert (later.stdout, later.stderr) == ("1\n", "")
    assert list(tmp_path.iterdir()) == []

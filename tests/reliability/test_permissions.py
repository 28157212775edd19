"""What may not be written or read: refused before any work, told in the middle of it, and only an image costs a row."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data_of_every_kind import ROWS, write_json
from filling_disks import KEPT, assert_as_undisturbed, contents

from scalselect import sample_work
from scalselect.errors import SampleError
from scalselect.image_files import open_image
from scalselect.records import Reason
from scored_runs import clustered_vectors
from small_disks import mounted, remount, without_rights
from small_pools import command, write_pool
from tables import picture

NOBODY = 65534


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "small") as folder:
        yield folder


@pytest.fixture
def folder():
    """Yield a folder that a user without rights can reach and write to, with a scored run and its data."""
    if os.geteuid() != 0:
        without_rights("only root can become somebody else")
    place = Path(tempfile.mkdtemp())  # nobody but root may enter the one of pytest
    np.save(place / "X.npy", clustered_vectors(ROWS))
    write_json(place / "pool.json")
    assert command("score", "--representations", place / "X.npy", "--output", place / "run") == 0
    assert command("select", place / "run", "--budget", "5", "--dataset", place / "pool.json") == 0
    for path in (place, *place.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield place
    shutil.rmtree(place)


def as_nobody(work, told):
    """Call something in a process of a user to whom permissions apply; return what it returned, and its stderr."""
    child = os.fork()
    if child == 0:
        code = 99
        with contextlib.suppress(BaseException), told.open("w") as stream:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with contextlib.redirect_stderr(stream):
                code = work()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.read_text()


@pytest.mark.parametrize(
    ("name", "mode", "words", "code", "said"),
    [
        ("pool.json", 0, "select run --budget 3 --dataset pool.json", 2, "data file cannot be read: {}"),
        ("X.npy", 0, "score --representations X.npy --output run", 2, "vectors cannot be read: {}"),
        ("run/run.json", 0, "select run --budget 3 --dataset pool.json", 2, "run.json cannot be read: {}"),
        ("run", 0o500, "select run --budget 3 --dataset pool.json", 2, "cannot be written: {} (permission denied; "),
        ("run/representations/shard-0000000.safetensors", 0, "score run --energy 0.5", 1, "Permission denied: {}"),
        ("run/representations/shard-0000000.json", 0, "score run --energy 0.5", 1, "Permission denied: {}"),
    ],
)
def test_permission_denied(folder, tmp_path_factory, name, mode, words, code, said):
    """Whatever may not be read or written is named, and nothing is taken for damaged or absent."""
    before = contents(folder / "run")
    paths = [folder / word if word in {"run", "X.npy", "pool.json"} else word for word in words.split()]
    kept = (folder / name).stat().st_mode
    (folder / name).chmod(mode)
    answer = as_nobody(lambda: command(*paths), tmp_path_factory.mktemp("told") / "stderr")
    assert answer[0] == code, answer
    assert said.format(folder / name) in answer[1]
    assert "Traceback" not in answer[1]
    assert contents(folder / "run") == before
    (folder / name).chmod(kept)
    assert as_nobody(lambda: command(*paths), tmp_path_factory.mktemp("told") / "stderr")[0] == 0


def test_an_image_that_may_not_be_read_costs_its_row(folder, tmp_path_factory):
    (folder / "a.png").write_bytes(picture(1))
    (folder / "a.png").chmod(0)

    def opened():
        try:
            open_image(str(folder / "a.png"))
        except SampleError as error:
            return 7 if error.reason is Reason.IMAGE_UNREADABLE and "Permission denied" in error.detail else 1
        return 0

    assert as_nobody(opened, tmp_path_factory.mktemp("told") / "stderr")[0] == 7
    (folder / "a.png").chmod(0o644)
    assert as_nobody(opened, tmp_path_factory.mktemp("told") / "stderr")[0] == 0


def test_folder_made_read_only_before_and_in_the_middle(disk, tmp_path, pictures, checkpoints, monkeypatch, capsys):
    data = write_pool(tmp_path / "data", pictures, rows=10)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "5", "--output"]
    assert command(*words, tmp_path / "whole") == 0
    remount(disk, "ro")
    capsys.readouterr()
    assert command(*words, disk / "run") == 2
    assert f"output folder cannot be created: {disk / 'run'}" in capsys.readouterr().err
    remount(disk, "rw")
    opened, original = [], sample_work.open_image

    def remounting(*arguments, **options):
        opened.append(arguments)
        if len(opened) == 7:  # in the second shard
            remount(disk, "ro")
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(sample_work, "open_image", remounting)
        assert command(*words, disk / "run", "--dataloader-workers", "0") == 1
    said = capsys.readouterr().err
    assert "read-only file system" in said
    assert str(disk / "run") in said
    assert KEPT in said
    before = contents(disk / "run")
    assert command(*words, disk / "run") == 2
    assert f"cannot be written: {disk / 'run'} (read-only file system; mount it" in capsys.readouterr().err
    assert command("select", disk / "run", "--budget", "1") == 2
    assert contents(disk / "run") == before
    remount(disk, "rw")
    assert command(*words, disk / "run") == 0
    assert_as_undisturbed(disk / "run", tmp_path / "whole")

"""A store that does not know exclusive creation gets one process at a time, and says why; others are shared."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from subprocess import PIPE

import numpy as np
import pytest
import s3fs

from claiming import mark_elsewhere, mark_of_dead
from object_store import names_in, store
from scalselect import claims
from scalselect.errors import RunFolderError
from scalselect.process_mark import mark_of, new_mark
from scalselect.remote_path import path_of
from scalselect.run_folder import RunFolder
from small_pools import command

MARKED = "from scalselect.process_mark import mark_of, new_mark; print(new_mark(), flush=True); input()"
REFUSED = "does not know exclusive creation"


def patched(monkeypatch, pipe_file):
    """Let a store's library write as `pipe_file` does, given what it did before."""
    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", pipe_file(s3fs.S3FileSystem._pipe_file))
    s3fs.S3FileSystem.clear_instance_cache()  # they keep the methods that they were made with


@pytest.fixture
def ignoring(bucket, monkeypatch):
    """Yield a bucket of a store that overlooks the condition under which a file is to be written."""

    def overlooking(pipe):
        async def write(self, path, data, mode="overwrite", **options):
            assert mode in ("overwrite", "create")
            return await pipe(self, path, data, **options)

        return write

    patched(monkeypatch, overlooking)
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def refusing(bucket, monkeypatch):
    """Yield a bucket of a store that answers a condition with an error."""

    def without_conditions(pipe):
        async def write(self, path, data, mode="overwrite", **options):
            if mode == "create":
                raise OSError(5, "A header you provided implies functionality that is not implemented")
            return await pipe(self, path, data, **options)

        return write

    patched(monkeypatch, without_conditions)
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()


@contextlib.contextmanager
def living():
    """Yield the mark of another process of this machine, which lives until the block ends."""
    with subprocess.Popen([sys.executable, "-c", MARKED], stdin=PIPE, stdout=PIPE, text=True) as process:
        yield mark_of(process.stdout.readline().strip())
        process.kill()


@pytest.fixture
def vectors(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32))
    return tmp_path / "X.npy"


def test_whether_a_store_knows_it_is_tried_once_and_nothing_is_left(bucket):
    trial = path_of(f"{bucket}/run/.trial")
    assert trial.knows_exclusive_creation()
    assert names_in(bucket) == []
    store().pipe_file(f"{bucket}/run/.trial", b"")
    assert trial.knows_exclusive_creation()


@pytest.mark.parametrize("kind", ["ignoring", "refusing"])
def test_a_store_that_does_not_know_it_is_found_out(kind, request):
    bucket = request.getfixturevalue(kind)
    assert not path_of(f"{bucket}/.trial").knows_exclusive_creation()
    assert names_in(bucket) == []
    path = path_of(f"{bucket}/file")
    path.create(b"first")
    with pytest.raises(FileExistsError):
        path.create(b"second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("kind", ["ignoring", "refusing"])
def test_there_a_second_process_is_refused_and_told_why(kind, request, vectors, capsys):
    run = f"{request.getfixturevalue(kind)}/run"
    words = ("score", "--representations", vectors, "--output", run)
    with living() as mark:
        store().pipe_file(f"{run}/.claims/run@{mark}", b"")
        assert command(*words) == 2
        told = capsys.readouterr().err
        assert REFUSED in told
        assert f"in use by {mark.words}: {run}" in told
        assert [name for name in names_in(run) if not name.startswith(".claims")] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ignoring", "refusing"])
def test_there_one_process_works_once_the_other_is_dead(kind, request, vectors):
    run = f"{request.getfixturevalue(kind)}/run"
    store().pipe_file(f"{run}/.claims/run@{mark_of_dead()}", b"")
    assert command("score", "--representations", vectors, "--output", run) == 0
    store().pipe_file(f"{run}/.claims/run@{mark_of_dead()}", b"")
    assert command("select", run, "--budget", "3") == 0
    assert not [name for name in names_in(run) if name.startswith(".")]


def test_elsewhere_a_sign_of_life_decides(ignoring, monkeypatch):
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(claims, "_REMOTE_POLL_SECONDS", 0.1)
    silent = f"{ignoring}/run/.claims/run@{mark_elsewhere()}"
    store().pipe_file(silent, b"")
    with RunFolder(f"{ignoring}/run").alone():
        (name,) = names_in(f"{ignoring}/run/.claims")
        assert name.startswith(f"run@{new_mark()}"[: -len("01234567")])
        with RunFolder(f"{ignoring}/run").alone():  # of the same process
            pass
        assert names_in(f"{ignoring}/run/.claims") == [name]
    store().pipe_file(silent, b"")
    beats = threading.Thread(target=beat, args=(f"{silent}.beat",))
    beats.start()
    with (
        pytest.raises(RunFolderError, match=r"in use by elsewhere, process \d+"),
        RunFolder(f"{ignoring}/run").alone(),
    ):
        pass
    beats.join()


def beat(name):
    for number in range(6):
        store().pipe_file(name, str(number).encode())
        time.sleep(0.2)


def test_where_the_store_knows_it_nobody_is_refused(bucket, vectors):
    run = f"{bucket}/run"
    with living() as mark:
        store().pipe_file(f"{run}/.claims/run@{mark}", b"")
        assert command("score", "--representations", vectors, "--output", run) == 0


def test_what_killed_processes_leave_before_there_is_a_run_is_no_obstacle(bucket, tmp_path):
    store().pipe_file(f"{bucket}/run/.claims/run@{mark_elsewhere()}", b"")
    store().pipe_file(f"{bucket}/run/.trial-{mark_elsewhere()}", b"")
    RunFolder(f"{bucket}/run").check_usable()
    store().pipe_file(f"{bucket}/run/thesis.tex", b"")
    with pytest.raises(RunFolderError, match=r"holds files but no run\.json"):
        RunFolder(f"{bucket}/run").check_usable()

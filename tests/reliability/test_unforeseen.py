"""What nobody foresaw ends with one message and exit code 1; the traceback is kept in a file."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from filling_disks import assert_as_undisturbed
from safetensors import SafetensorError

import scalselect
from scalselect import image_files, score_work
from scalselect.failures import is_lasting, machine_failure, told_of
from scored_runs import clustered_vectors
from small_pools import command, scores_of, write_pool


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    np.save(tmp_path / "X.npy", clustered_vectors(20))
    return ["score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "run"]


def failing(error):
    def fail(*_arguments, **_options):
        raise error

    return fail


def test_a_fault_of_the_program(words, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(score_work, "dominant_subspace", failing(KeyError("no such thing")))
        assert command(*words) == 1
        with pytest.raises(KeyError):  # Python's users see what it is
            scalselect.score(tmp_path / "run")
    said = capsys.readouterr().err
    assert "error: unexpected KeyError: 'no such thing'; this is a fault of scalselect" in said
    assert "the same command continues" in said
    assert "Traceback" not in said
    kept = Path(re.search(r"is in (\S+\.txt)", said)[1])
    assert kept.parent == tmp_path
    assert "Traceback" in kept.read_text()
    assert "dominant_subspace" in kept.read_text()
    assert command(*words) == 0


def test_a_fault_whose_traceback_cannot_be_kept(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score_work, "dominant_subspace", failing(KeyError("no such thing")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert command(*words) == 1
    assert re.search(r"It came from \S+test_unforeseen.py, line \d+; what was finished", capsys.readouterr().err)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_no_fault_of_a_row(number, tmp_path, pictures, checkpoints, monkeypatch, capsys):
    """A mock: what the system's call says once is made up here."""
    data = write_pool(tmp_path / "data", pictures, rows=10)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "5", "--output"]
    assert command(*words, tmp_path / "whole") == 0
    read, reads = image_files.read_local_image, []

    def failing_once(path, *others):
        reads.append(path)
        if len(reads) == 5:
            raise OSError(number, os.strerror(number), path)
        return read(path, *others)

    with monkeypatch.context() as patched:
        patched.setattr(image_files, "read_local_image", failing_once)
        assert command(*words, tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert f"{os.strerror(number)[1:]}: " in said  # read by a process of its own, perhaps
    assert "the same command continues" in said
    assert command(*words, tmp_path / "run") == 0
    assert set(scores_of(tmp_path / "run")["status"]) == {"scored"}
    assert_as_undisturbed(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (pa.ArrowInvalid("Write failed. Detail: [errno 28] No space left on device"), errno.ENOSPC),
        (ImportError("libz.so.1: cannot open shared object file: Too many open files"), errno.EMFILE),
        (RuntimeError("unable to open file </a> in read-only mode: Too many open files (24)"), errno.EMFILE),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (RuntimeError("received 0 items of ancdata"), errno.EMFILE),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (PermissionError(errno.EACCES, "Permission denied"), None),
        (ValueError("a text that says [Errno 28] or Too many open files"), None),
        (RuntimeError("the template says: Too many open files (24)"), None),
        (OSError("image file is truncated (24 bytes not processed)"), None),
        (pa.ArrowInvalid("Not a Parquet file"), None),
    ],
)
def test_how_libraries_tell_of_the_machine(error, number):
    found = machine_failure(error)
    assert (None if found is None else found.errno) == number
    wrapped = RuntimeError("cannot be read")
    wrapped.__cause__ = error
    found = machine_failure(wrapped)
    assert (None if found is None else found.errno) == number


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 10 failed"),
        ImportError("a.so: failed to map segment from shared object"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_how_libraries_tell_of_memory(error):
    found = machine_failure(error)
    assert isinstance(found, MemoryError)
    assert told_of(found).startswith("memory ran out")
    assert not is_lasting(found)

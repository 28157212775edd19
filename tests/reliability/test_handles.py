"""No handles are left, at any moment: the command says so, no row is skipped for it, and the same command continues."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil

import numpy as np
import pytest
from data_of_every_kind import ROWS, WRITERS
from filling_disks import KEPT, assert_as_undisturbed, contents

from scalselect.storage import TEMPORARY_MARK
from scored_runs import clustered_vectors
from small_pools import command, scores_of, write_pool


@contextlib.contextmanager
def handles(more):
    """Let this process open a few more files than it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what earlier tests left is not to give handles back meanwhile
    unused, taken = [], len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    try:
        highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
        while len(unused) < highest - taken:  # so that the numbers below the highest one are taken
            unused.append(os.open("/dev/null", os.O_RDONLY))
        top = max(unused, default=0)
        limit = max(highest, top) + 1 + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in unused:
            os.close(descriptor)


def swept(words, run_dir, capsys, counts):
    """Run a command with ever more handles, each time from where the last one stopped; return how often it failed."""
    for failures, more in enumerate(counts):
        with handles(more):
            code = command(*words)
        said = capsys.readouterr().err
        assert "Traceback" not in said, said
        assert "unexpected" not in said, said
        if code == 0:
            return failures
        assert code == 1, said
        assert "too many open files" in said.lower(), said
        assert "ulimit -n" in said, said
        assert KEPT in said, said
        if run_dir.exists():
            assert not [name for name in contents(run_dir) if TEMPORARY_MARK in name], said
    raise AssertionError("it never had enough")


def test_scoring_own_vectors(tmp_path, capsys):
    np.save(tmp_path / "X.npy", clustered_vectors(60))
    words = ["score", "--representations", tmp_path / "X.npy", "--output"]
    assert command(*words, tmp_path / "whole") == 0
    assert swept([*words, tmp_path / "run"], tmp_path / "run", capsys, range(40)) > 1
    assert_as_undisturbed(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("kind", WRITERS)
def test_choosing(kind, tmp_path, capsys):
    """Whatever library reads the data: none of them lets the want of handles look like damage of a file."""
    np.save(tmp_path / "X.npy", clustered_vectors(ROWS))
    assert command("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "run") == 0
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    words = ["--budget", "50%", "--dataset", *WRITERS[kind](tmp_path / f"pool.{kind}")]
    assert command("select", whole, *words) == 0
    assert swept(["select", tmp_path / "run", *words], tmp_path / "run", capsys, range(40)) > 1
    assert_as_undisturbed(tmp_path / "run", whole)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run(workers, tmp_path, pictures, checkpoints, capsys):
    data = write_pool(tmp_path / "data", pictures, rows=20)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "10"]
    words += ["--dataloader-workers", workers, "--output"]
    assert command(*words, tmp_path / "whole") == 0
    failures = swept([*words, tmp_path / "run"], tmp_path / "run", capsys, range(120))
    assert failures > 2
    assert_as_undisturbed(tmp_path / "run", tmp_path / "whole")
    assert set(scores_of(tmp_path / "run")["status"]) == {"scored"}

"""The disk is full at every write of a run in turn: told, nothing harmed, and the same command continues."""

from __future__ import annotations

import numpy as np
import pytest
from filling_disks import assert_as_undisturbed, repeated_until_it_fits

from scored_runs import clustered_vectors
from small_disks import PAGE, full_disk
from small_pools import command, write_pool

KINDS = ["disk", "files"]


@pytest.fixture
def disk(request, tmp_path):
    with full_disk(request.param, tmp_path / "small") as disk:
        yield disk


@pytest.mark.parametrize("disk", KINDS, indirect=True)
def test_every_write_of_scoring_own_vectors(disk, tmp_path, capsys):
    """Import, run.json, subspace, coordinates and scores."""
    np.save(tmp_path / "X.npy", clustered_vectors(60))
    words = ["score", "--representations", tmp_path / "X.npy", "--output"]
    assert command(*words, tmp_path / "whole") == 0
    run_dir = disk.folder / "run"
    failures = repeated_until_it_fits([*words, run_dir], disk, run_dir, capsys, step=PAGE // 4)
    assert failures > 4
    assert_as_undisturbed(run_dir, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("disk", "least"), [("disk", 12), ("files", 3)], indirect=["disk"])
def test_every_write_of_a_run(disk, least, tmp_path, pictures, checkpoints, capsys):
    assert_a_run_continues(disk, tmp_path, pictures, checkpoints, capsys, step=PAGE, least=least)


@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_some_writes_of_a_run(disk, tmp_path, pictures, checkpoints, capsys):
    assert_a_run_continues(disk, tmp_path, pictures, checkpoints, capsys, step=8 * PAGE, least=3)


def assert_a_run_continues(disk, tmp_path, pictures, checkpoints, capsys, *, step, least):
    data = write_pool(tmp_path / "data", pictures, rows=10)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "5", "--output"]
    assert command(*words, tmp_path / "whole") == 0
    run_dir = disk.folder / "run"
    failures = repeated_until_it_fits([*words, run_dir], disk, run_dir, capsys, step=step)
    assert failures >= least
    disk.release()
    assert command(*words, run_dir) == 0
    assert_as_undisturbed(run_dir, tmp_path / "whole")

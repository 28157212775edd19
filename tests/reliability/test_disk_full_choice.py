"""The disk is full at every write of a choice in turn, for every kind of data, and of what is made from a choice."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from data_of_every_kind import ROWS, WRITERS, write_json
from filling_disks import assert_as_undisturbed, repeated_until_it_fits

from scored_runs import clustered_vectors
from small_disks import PAGE, full_disk
from small_pools import command
from tables import picture


@pytest.fixture
def scored(tmp_path):
    """Return a folder with scores, made of vectors that any records may be given for."""
    np.save(tmp_path / "X.npy", clustered_vectors(ROWS))
    assert command("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "scored") == 0
    return tmp_path / "scored"


@pytest.fixture
def disk(request, tmp_path):
    with full_disk(request.param, tmp_path / "small") as disk:
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["disk", "files"], indirect=True)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_write_of_a_choice(kind, disk, scored, tmp_path, capsys):
    """Two budgets: subsets, diagnostics, scores, accounts and the guide."""
    failures = assert_a_choice_continues(kind, disk, scored, tmp_path, capsys, budget="50%,5", step=PAGE // 4)
    assert failures > 4


@pytest.mark.parametrize("disk", ["disk"], indirect=True)
@pytest.mark.parametrize("kind", ["json", "tar"])
def test_some_writes_of_a_choice(kind, disk, scored, tmp_path, capsys):
    assert assert_a_choice_continues(kind, disk, scored, tmp_path, capsys, budget="50%", step=2 * PAGE) > 2


def assert_a_choice_continues(kind, disk, scored, tmp_path, capsys, *, budget, step):
    data = ["--dataset", *WRITERS[kind](tmp_path / f"pool.{kind}")]
    whole = shutil.copytree(scored, tmp_path / "whole")
    assert command("select", whole, "--budget", budget, *data) == 0
    run_dir = shutil.copytree(scored, disk.folder / "run")
    words = ["select", run_dir, "--budget", budget, *data]
    failures = repeated_until_it_fits(words, disk, run_dir, capsys, step=step)
    assert_as_undisturbed(run_dir, whole)
    return failures


@pytest.mark.parametrize("disk", ["disk", "files"], indirect=True)
@pytest.mark.parametrize("form", ["messages", "trl"])
def test_every_write_of_an_export(form, disk, scored, tmp_path, capsys):
    for number in range(ROWS):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    data = write_json(tmp_path / "pool.json")[0]
    assert command("select", scored, "--budget", "50%", "--dataset", data) == 0
    whole = shutil.copytree(scored, tmp_path / "whole")
    words = ["--to", form, "--dataset", data]
    assert command("export", whole, *words) == 0
    run_dir = shutil.copytree(scored, disk.folder / "run")
    failures = repeated_until_it_fits(["export", run_dir, *words], disk, run_dir, capsys, step=PAGE)
    assert failures > 0
    assert_as_undisturbed(run_dir, whole)

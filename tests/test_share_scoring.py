"""Processes of a launcher share a scoring, whoever comes late, stands still or dies; here they are mostly threads."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest

import scalselect
from scalselect import score_work
from scalselect.config import ScoreConfig
from scalselect.engines.torchrun_engine import Rank
from scalselect.errors import WorkError
from scalselect.process_mark import new_mark
from scalselect.progress import Silent
from scalselect.run_folder import RunFolder
from scalselect.score_parts import ScoreParts
from scalselect.score_work import score_run, share_scoring
from scalselect.segments import shards_of
from scored_runs import clustered_vectors, scored_run
from shard_workers import together
from small_pools import promised_files
from small_scorings import PARTS, STEPS, copy_of, make_parts_small, parts_of, run_of_parts

_this = threading.local()  # holds the rank: a thread has no environment of its own


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    with pytest.MonkeyPatch.context() as patched:
        make_parts_small(patched)
        patched.setattr(score_work, "rank_of_environment", lambda: getattr(_this, "rank", None))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of four parts, scored by nobody."""
    return run_of_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Return the promised files of the run, scored by one process."""
    folder = copy_of(run, tmp_path_factory.mktemp("whole"))
    scalselect.score(folder.path)
    return promised_files(folder.path)


@pytest.fixture
def mine(run, tmp_path):
    """Return a copy of the run that a test may change."""
    return copy_of(run, tmp_path)


def share(mine, number, world, before=lambda: None):
    folder = RunFolder(mine.path)
    before()
    _this.rank = Rank("torchrun", number, world, number, world)
    try:
        share_scoring(folder, ScoreConfig(), Silent())
    finally:
        _this.rank = None
    with folder.claimed():
        score_run(folder, ScoreConfig(), Silent())


@pytest.fixture
def done(monkeypatch):
    """Return the list of the parts that are computed from now on, by whomever."""
    done = []
    summed, projected = ScoreParts._summed, ScoreParts._projected

    def counting(work, *step):
        def count(self, *arguments):
            done.append((*step, *arguments))
            return work(self, *arguments)

        return count

    monkeypatch.setattr(ScoreParts, "_summed", counting(summed))
    monkeypatch.setattr(ScoreParts, "_projected", counting(projected, "projection"))
    return done


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_of_a_launcher_share_the_parts(mine, whole, done, world):
    together([lambda number=number: share(mine, number, world) for number in range(world)])
    assert promised_files(mine.path) == whole
    assert sorted(done, key=str) == sorted(itertools.product(STEPS, range(PARTS)), key=str)  # each once
    assert not mine.scoring.exists()
    assert not (mine.path / ".claims").exists()


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_one_after_another_in_any_order(mine, whole, order):
    for number in order:
        share(mine, number, 3)
        assert promised_files(mine.path) == whole
        assert not mine.scoring.exists()


def test_one_that_comes_when_the_others_are_done(mine, whole, done):
    over = threading.Event()

    def others():
        try:
            together([lambda number=number: share(mine, number, 3) for number in (0, 2)])
        finally:
            over.set()

    together([others, lambda: share(mine, 1, 3, before=lambda: over.wait(60))])
    assert len(done) == len(STEPS) * PARTS
    assert promised_files(mine.path) == whole
    assert not mine.scoring.exists()


@pytest.mark.parametrize("step", STEPS)
def test_one_that_stands_still_before_a_part_until_all_is_over(mine, whole, monkeypatch, step):
    """The others end without it, and remove what it was about to read or write."""
    publish = ScoreParts.publish
    slow, over = [], threading.Event()

    def late(self, at, part):
        if threading.get_ident() in slow and at == step:
            assert over.wait(60)
        publish(self, at, part)

    monkeypatch.setattr(ScoreParts, "publish", late)

    def slow_one():
        slow.append(threading.get_ident())
        share(mine, 1, 3)

    def others():
        while not slow:
            time.sleep(0.01)
        until = time.monotonic() + 60
        while not any((mine.path / ".claims").glob(f"{step}-*")):  # it is at its first part
            assert time.monotonic() < until
            time.sleep(0.01)
        # It counts as dead, as one whose machine was suspended.
        for path in (mine.path / ".claims").glob(f"{step}-*"):
            path.unlink()
        share(mine, 0, 3)
        over.set()

    together([slow_one, others])
    assert promised_files(mine.path) == whole
    assert not mine.scoring.exists()


@pytest.mark.parametrize("after", [0, 3, 8, 10])
def test_one_that_dies_on_the_way(mine, whole, after):
    """It leaves so many parts, and a claim; another one, alone, ends the job."""
    child = os.fork()
    if not child:
        publish, count = ScoreParts.publish, itertools.count()

        def dying(self, step, part):
            if next(count) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            publish(self, step, part)

        ScoreParts.publish = dying
        try:
            share(mine, 1, 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list((mine.path / ".claims").iterdir())
    share(mine, 0, 2)
    assert promised_files(mine.path) == whole
    assert not mine.scoring.exists()
    assert not (mine.path / ".claims").exists()


@pytest.mark.parametrize("scorable", ["none", "equal"])
def test_processes_of_a_launcher_say_of_what_cannot_be_scored_what_one_says(tmp_path, scorable):
    vectors = np.ones((300, 4), np.float32)
    unusable = set(range(300)) if scorable == "none" else ()
    mine = RunFolder(scored_run(tmp_path, vectors, unusable=unusable, score=False))
    with pytest.raises(WorkError) as alone:
        scalselect.score(mine.path)
    with pytest.raises(WorkError) as shared:
        share(mine, 0, 2)
    assert str(shared.value) == str(alone.value)
    assert not mine.scores.exists()


def test_a_single_part_is_not_shared(tmp_path, monkeypatch):
    mine = RunFolder(scored_run(tmp_path, clustered_vectors(90), score=False))
    monkeypatch.setattr(score_work, "share_parts", lambda *_: pytest.fail("shared"))
    share(mine, 1, 2)
    assert mine.scores.exists()


def test_the_parts_of_a_claim_that_lives_are_waited_for(mine, whole):
    """Somebody is at a part: the process takes all others first, then waits, and adopts what the other one left."""
    parts = parts_of(mine, store=mine.store.digest(shards_of(mine.require())))
    (mine.path / ".claims").mkdir()
    path = mine.path / ".claims" / f"representations-00001@{new_mark()}"
    path.touch()

    def other():
        while not parts.is_published("representations", 3):
            time.sleep(0.01)
        time.sleep(0.1)
        assert not parts.is_published("representations", 1)
        parts.publish("representations", 1)
        path.unlink()

    together([lambda: share(mine, 0, 2), other])
    assert promised_files(mine.path) == whole

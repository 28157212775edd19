"""Processes on one run folder represent every shard once, and none waits for a dead one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest

from claiming import mark_elsewhere, mark_of_dead
from scalselect import claims, missing_shards
from scalselect.claim_files import remove_claim
from scalselect.engines.torchrun_engine import Rank
from scalselect.errors import ShardError, WorkError
from scalselect.missing_shards import represent_missing
from scalselect.process_mark import new_mark
from scalselect.run_folder import RunFolder
from shard_workers import SHARD_SIZE, Telling, force_of, publish, segment_of, together
from small_pools import command, promised_files, scores_of, write_pool

# A process that tells which shards it represents, and takes its time for each.
TELLING = """
import sys, time
from scalselect import shard_work
from scalselect.cli import main
publish = shard_work.ShardWork._publish

def telling(self, shard, *arguments):
    with open(sys.argv[1], "a") as file:
        file.write(f"{shard}\\n")
    time.sleep(0.7)
    return publish(self, shard, *arguments)

shard_work.ShardWork._publish = telling
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.4)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def represent(folder, force, shards, progress=None):
    return represent_missing(force, folder, [segment_of(shards)], Decimal(5), progress or Telling())


def told(folder, shard, mark):
    """Let somebody be at a shard."""
    folder.claims.folder.mkdir(exist_ok=True)
    path = folder.claims.folder / f"shard-{shard:07d}@{mark}"
    path.touch()
    return path


def names_in(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_alone_in_order_and_nothing_is_left(folder):
    publish(folder, 2)
    force, worker = force_of(folder)
    progress = Telling()
    totals = represent(folder, force, 5, progress)
    assert worker.represented == [0, 1, 3, 4]
    assert totals.rows == totals.counts["scored"] == 5 * SHARD_SIZE
    assert progress.started == (5 * SHARD_SIZE, SHARD_SIZE, 0)
    assert progress.said == []
    assert names_in(folder) == ["representations"]


def test_a_shard_is_claimed_while_it_is_represented(folder):
    seen = []

    def look(_shard):
        seen.append([path.name[:13] for path in folder.claims.folder.iterdir()])

    represent(folder, force_of(folder, before=look)[0], 2)
    assert seen == [["shard-0000000"], ["shard-0000001"]]


def test_a_claim_is_given_back_where_representing_fails(folder):
    def fail(shard):
        if shard == 1:
            raise ShardError("too large")

    progress = Telling()
    with pytest.raises(WorkError, match=r"1 of 3 shards failed \(first: shard 1, too large\); what was represented is"):
        represent(folder, force_of(folder, before=fail)[0], 3, progress)
    assert progress.said == ["shard 1 failed after 1 attempts: too large"]
    assert names_in(folder) == ["representations"]
    force, worker = force_of(folder)
    represent(folder, force, 3)
    assert worker.represented == [1]


@pytest.mark.parametrize("ranks", [False, True])
def test_every_shard_once_among_several(folder, ranks):
    forces = []
    for number in range(3):
        one = RunFolder(folder.path)
        rank = Rank("torchrun", number, 3, number, 3) if ranks else None
        forces.append((one, *force_of(one, rank, before=lambda _shard: time.sleep(0.01))))
    results = []
    together([lambda one=one, force=force: results.append(represent(one, force, 20)) for one, force, _ in forces])
    represented = [worker.represented for *_, worker in forces]
    assert sorted(shard for shards in represented for shard in shards) == list(range(20))
    assert [totals.rows for totals in results] == [20 * SHARD_SIZE] * 3
    assert names_in(folder) == ["representations"]
    if ranks:
        first = [shards[0] for shards in represented]
        assert first == [0, 1, 2]


@pytest.mark.parametrize("number", [0, 2])
def test_one_that_is_left_of_several_does_the_work_of_all(folder, number):
    force, worker = force_of(folder, Rank("torchrun", number, 3, number, 3))
    represent(folder, force, 7)
    own = [shard for shard in range(7) if shard % 3 == number]
    assert worker.represented == own + [shard for shard in reversed(range(7)) if shard not in own]


def test_one_that_another_is_at_comes_last_and_is_adopted(folder):
    path = told(folder, 1, new_mark())
    progress = Telling()

    def end():
        publish(folder, 1)
        remove_claim(path)

    timer = threading.Timer(0.3, end)
    force, worker = force_of(folder, before=lambda shard: timer.start() if shard == 2 else None)
    totals = represent(folder, force, 3, progress)
    timer.join()
    assert worker.represented == [0, 2]
    assert totals.rows == 3 * SHARD_SIZE
    assert progress.said == [
        f"waiting: shard 1 is being represented by {new_mark().words}",  # once, however often it looks
        "1 of these shards were represented by other processes",
    ]
    assert names_in(folder) == ["representations"]


def test_a_new_holder_is_told_of_again(folder):
    path = told(folder, 0, new_mark())
    progress = Telling()

    def other():
        other.path = told(folder, 0, mark_elsewhere())
        path.unlink()

    def end():
        publish(folder, 0)
        other.path.unlink()

    timers = [threading.Timer(seconds, act) for seconds, act in ((0.15, other), (0.3, end))]
    for timer in timers:
        timer.start()
    represent(folder, force_of(folder)[0], 1, progress)
    for timer in timers:
        timer.join()
    assert [line.partition(" by ")[2] for line in progress.said[:-1]] == [new_mark().words, mark_elsewhere().words]


def test_nobody_is_waited_for_aloud_where_others_are_still_to_do(folder):
    """Who is put off in the first round, and is done when its turn comes again, is no news."""
    path = told(folder, 0, new_mark())
    progress = Telling()

    def end(shard):
        if shard == 2:
            publish(folder, 0)
            path.unlink()

    represent(folder, force_of(folder, before=end)[0], 3, progress)
    assert progress.said == ["1 of these shards were represented by other processes"]


def test_one_that_another_failed_at_is_taken(folder):
    timer = threading.Timer(0.3, told(folder, 1, new_mark()).unlink)
    timer.start()
    force, worker = force_of(folder)
    represent(folder, force, 3)
    timer.join()
    assert worker.represented == [0, 2, 1]


@pytest.mark.parametrize(("mark", "order"), [(mark_of_dead, [0, 1, 2]), (mark_elsewhere, [0, 2, 1])])
def test_one_that_a_dead_process_was_at_is_taken(folder, mark, order):
    told(folder, 1, mark())
    force, worker = force_of(folder)
    represent(folder, force, 3)
    assert worker.represented == order
    assert names_in(folder) == ["representations"]


@pytest.mark.parametrize(("number", "seen"), [(0, [0, 1, 2, 3]), (1, [0, 0, 0, 0])])
def test_the_first_of_a_launchers_processes_shows_the_rows_of_all(folder, monkeypatch, number, seen):
    """Shards that others publish meanwhile are counted as they are seen, each once; the second counts them in the end.

    Its own are counted row by row.
    """
    monkeypatch.setattr(missing_shards, "_SECONDS_BETWEEN_LOOKS", 0.0)
    shown = []

    def other(shard):
        shown.append(len(progress.counted))
        publish(folder, shard ^ 1)

    progress = Telling()
    force, worker = force_of(folder, Rank("torchrun", number, 2, number, 2), before=other)
    totals = represent(folder, force, 8, progress)
    assert worker.represented == list(range(number, 8, 2))
    assert totals.rows == 8 * SHARD_SIZE
    assert progress.said == ["4 of these shards were represented by other processes"]
    assert sum(progress.counted) == 4 * SHARD_SIZE
    assert shown == seen


@pytest.fixture
def words(tmp_path, pictures, checkpoints, shared_models_kept):
    """Return a function (output) -> the words of a run over 18 rows in six shards."""
    data = write_pool(tmp_path / "data", pictures, rows=18)
    return lambda output: [
        *("run", data, "--model", checkpoints("llava"), "--shard-size", "3", "--budget", "50%", "--threads", "1"),
        *("--output", output),
    ]


def test_a_run_beside_a_dead_and_a_living_one(tmp_path, words, capsys):
    """The shards of both end up in it, and it says for whom it waited and how many it took over from others."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert command(*words(whole)) == 0
    out.mkdir()
    told(RunFolder(out), 0, mark_of_dead())
    path = told(RunFolder(out), 4, new_mark())

    def other():
        shard = whole / "representations" / "shard-0000004"
        (out / "representations").mkdir(exist_ok=True)
        for suffix in (".safetensors", ".rows.parquet", ".json"):
            (out / "representations" / (shard.name + suffix)).write_bytes(shard.with_suffix(suffix).read_bytes())
        path.unlink()

    timer = threading.Timer(1.5, other)
    timer.start()
    capsys.readouterr()
    assert command(*words(out)) == 0
    timer.join()
    said = capsys.readouterr().err
    assert "1 of these shards were represented by other processes" in said
    assert "represented 18 of 18 rows" in said
    assert promised_files(out) == promised_files(whole)
    assert not (out / ".claims").exists()


def start(log, words):
    return subprocess.Popen(
        [sys.executable, "-c", TELLING, str(log), *map(str, words)], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_started_together_represent_every_shard_once(tmp_path, words):
    assert command(*words(tmp_path / "whole")) == 0
    out = tmp_path / "run"
    both = [start(tmp_path / f"log{number}", words(out)) for number in range(2)]
    ends = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    done = [[int(line) for line in (tmp_path / f"log{number}").read_text().split()] for number in range(2)]
    assert sorted(done[0] + done[1]) == list(range(6))
    assert min(map(len, done)) >= 1
    assert promised_files(out) == promised_files(tmp_path / "whole")
    assert not (out / ".claims").exists()


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_the_other_ends_the_run(tmp_path, words):
    assert command(*words(tmp_path / "whole")) == 0
    out = tmp_path / "run"
    victim, other = (start(tmp_path / name, words(out)) for name in ("victim", "other"))
    ends = time.monotonic() + 200
    while not (tmp_path / "victim").exists() and time.monotonic() < ends:
        time.sleep(0.02)
    victim.kill()
    told = other.communicate(timeout=300)[1]
    victim.communicate()
    assert other.returncode == 0, told
    assert promised_files(out) == promised_files(tmp_path / "whole")
    assert sum(scores_of(out)["selected"]) == 9
    assert not (out / ".claims").exists()

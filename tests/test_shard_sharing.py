"""Processes on one run folder represent every shard once, and none waits for a dead one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from claiming import mark_elsewhere, mark_of_dead
from scalselect import claims
from scalselect.claims import Claims
from scalselect.process_mark import new_mark
from scalselect.shard_sharing import shared_shards
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


class Shelf:
    """What is published, as far as sharing asks."""

    def __init__(self, *published):
        self.published = set(published)

    def is_published(self, shard):
        return shard in self.published


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.4)


def told(folder, shard, mark):
    folder.mkdir(exist_ok=True)
    path = folder / f"shard-{shard:07d}@{mark}"
    path.touch()
    return path


def test_alone_in_order_and_nothing_is_left(tmp_path):
    shelf, said = Shelf(2), []
    assert list(shared_shards(range(5), shelf, Claims(tmp_path / "claims"), said.append)) == [0, 1, 2, 3, 4]
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_claimed_until_the_next_one_is_asked_for(tmp_path):
    shards = shared_shards([3, 4], Shelf(), Claims(tmp_path / "claims"), pytest.fail)
    assert next(shards) == 3
    assert [path.name[:13] for path in (tmp_path / "claims").iterdir()] == ["shard-0000003"]
    assert next(shards) == 4
    assert [path.name[:13] for path in (tmp_path / "claims").iterdir()] == ["shard-0000004"]
    shards.close()
    assert list(tmp_path.iterdir()) == []


def test_every_shard_once_among_several(tmp_path):
    shelf, represented = Shelf(), []

    def work():
        mine = Claims(tmp_path / "claims")
        for shard in shared_shards(range(20), shelf, mine, lambda _line: None):
            if not shelf.is_published(shard):
                represented.append(shard)
                time.sleep(0.01)
                shelf.published.add(shard)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(represented) == list(range(20))
    assert shelf.published == set(range(20))


def test_one_that_another_is_at_comes_last_and_is_adopted(tmp_path):
    path = told(tmp_path / "claims", 1, new_mark())
    shelf, said = Shelf(), []

    def end():
        shelf.published.add(1)
        path.unlink()

    timer = threading.Timer(0.3, end)
    seen = []
    for shard in shared_shards(range(3), shelf, Claims(tmp_path / "claims"), said.append):
        seen.append((shard, shelf.is_published(shard)))
        if shard == 2:
            timer.start()
    assert seen == [(0, False), (2, False), (1, True)]
    assert said == [f"waiting: shard 1 is being represented by {new_mark().words}"]


def test_one_that_another_failed_at_is_taken(tmp_path):
    path = told(tmp_path / "claims", 1, new_mark())
    threading.Timer(0.3, path.unlink).start()
    assert list(shared_shards(range(3), Shelf(), Claims(tmp_path / "claims"), str)) == [0, 2, 1]


@pytest.mark.parametrize(("mark", "order"), [(mark_of_dead, [0, 1, 2]), (mark_elsewhere, [0, 2, 1])])
def test_one_that_a_dead_process_was_at_is_taken(tmp_path, mark, order):
    told(tmp_path / "claims", 1, mark())
    assert list(shared_shards(range(3), Shelf(), Claims(tmp_path / "claims"), str)) == order
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def words(tmp_path, pictures, checkpoints):
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
    told(out / ".claims", 0, mark_of_dead())
    path = told(out / ".claims", 4, new_mark())

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

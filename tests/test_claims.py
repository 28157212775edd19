"""One process at a time holds a claim, dead ones block nobody, and whoever lost it writes no more."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from claiming import holding, mark_elsewhere, mark_of_dead
from object_store import names_in
from scalselect import claims
from scalselect.claims import Claim, Claims
from scalselect.errors import WorkError
from scalselect.process_mark import ProcessMark
from scalselect.remote_path import path_of

CONTENDER = """
import fcntl, os, random, signal, sys, time
from pathlib import Path
from scalselect import claims
claims._POLL_SECONDS = 0.01
folder, number = Path(sys.argv[1]), int(sys.argv[2])
dice, deaths = random.Random(number), number % 2
for turn in range(12):
    with claims.Claims(folder / "claims").held("counting"):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)  # a second road: the system takes it back at death
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (folder / "two-inside").touch()
        count = int((folder / "count").read_text())
        time.sleep(dice.uniform(0, 0.01))
        (folder / "count").write_text(str(count + 1))
        if deaths and turn == 5 + number:
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(lock)
"""


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    """Return a folder of claims on a disk, and one in an object store."""
    return tmp_path / "claims" if request.param == "disk" else path_of(f"{request.getfixturevalue('bucket')}/claims")


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.slow)])
def shared_folder(request, tmp_path):
    """Return such folders for tests with processes, of which those that use a bucket start slowly."""
    return tmp_path / "claims" if request.param == "disk" else path_of(f"{request.getfixturevalue('bucket')}/claims")


@pytest.fixture
def quick(monkeypatch):
    """Make everybody in this process impatient."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.6)
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(claims, "_REMOTE_POLL_SECONDS", 0.05)


def left(folder):
    if isinstance(folder, type(path_of("s3://a/b"))):
        return names_in(str(folder))
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_never_two_inside_though_some_are_killed(tmp_path):
    (tmp_path / "count").write_text("0")
    contenders = [subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path), str(n)]) for n in range(6)]
    codes = [process.wait(timeout=120) for process in contenders]
    assert codes == [0, -9, 0, -9, 0, -9]
    assert not (tmp_path / "two-inside").exists()
    died_at = {number: 5 + number + 1 for number in (1, 3, 5)}  # turns until their death, counted
    assert int((tmp_path / "count").read_text()) == 3 * 12 + sum(died_at.values())


def test_held_by_one_kind_by_kind(folder):
    one, two = Claims(folder), Claims(folder)
    with one.take("a") as claim:
        holder = two.take("a")
        assert isinstance(holder, ProcessMark)
        assert holder.process == os.getpid()
        with two.take("b"):
            claim.check()
            assert len([name for name in left(folder) if not name.endswith(".beat")]) == 2
    assert left(folder) == []
    with two.take("a"):
        pass
    assert left(folder) == []


def test_waiting_ends_with_the_release_and_says_once_for_whom(shared_folder, quick):
    told = []
    with holding(shared_folder) as process:
        timer = threading.Timer(0.8, lambda: process.communicate("on\n"))
        timer.start()
        with Claims(shared_folder).held("scoring", told.append):
            timer.join()
    (holder,) = told
    assert holder.endswith(f", process {process.pid}")
    assert process.returncode == 0


def test_a_killed_holder_is_followed_at_once(tmp_path):
    """Without the patience that one on another machine is given."""
    with holding(tmp_path / "claims") as process:
        assert isinstance(Claims(tmp_path / "claims").take("scoring"), ProcessMark)
        process.kill()
        began = time.monotonic()
        with Claims(tmp_path / "claims").held("scoring"):
            assert time.monotonic() - began < claims.PATIENCE_SECONDS / 3
    assert left(tmp_path / "claims") == []


def test_nobody_takes_from_a_process_of_this_machine_that_stands_still(shared_folder, quick):
    with holding(shared_folder) as process:
        process.send_signal(signal.SIGSTOP)
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert isinstance(Claims(shared_folder).take("scoring"), ProcessMark)
            time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        assert process.communicate("on\n")[0] == "released\n"
        with Claims(shared_folder).take("scoring") as claim:
            claim.check()


def test_one_elsewhere_that_gives_no_sign_of_life_is_followed(shared_folder, quick):
    with holding(shared_folder, elsewhere="other.0123456789ab") as process:
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        told = []
        with Claims(shared_folder).held("scoring", told.append):
            assert time.monotonic() - began > 0.6
        assert told == [f"other, process {process.pid}"]
    assert left(shared_folder) == []


def test_one_elsewhere_that_gives_signs_of_life_is_not(shared_folder, quick):
    mine = Claims(shared_folder)
    with holding(shared_folder, elsewhere="other.0123456789ab"):
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            assert isinstance(mine.take("scoring"), ProcessMark)
            time.sleep(0.05)
        assert isinstance(mine.take_or_refuse("scoring"), ProcessMark)


def test_time_in_which_nobody_looked_does_not_count(tmp_path, quick, monkeypatch):
    mine = Claims(tmp_path)
    (tmp_path / f"scoring@{mark_elsewhere()}").touch()
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(claims, "_REMOTE_POLL_SECONDS", 2.0)
    assert isinstance(mine.take("scoring"), ProcessMark)
    now[0] += 3600
    assert isinstance(mine.take("scoring"), ProcessMark)
    for _ in range(70):
        now[0] += 1
        holder = mine.take("scoring")
        if isinstance(holder, Claim):
            break
    assert 3600 + 50 < now[0] <= 3600 + 60
    holder.release()


def test_whoever_was_suspended_elsewhere_and_lost_it_may_write_no_more(shared_folder, quick):
    then = """
    from scalselect.errors import WorkError
    time.sleep(0.5)  # beats that come too late bring nothing back
    try:
        claim.check()
    except WorkError as error:
        print(error, flush=True)"""
    with holding(shared_folder, elsewhere="other.0123456789ab", then=then.strip()) as process:
        process.send_signal(signal.SIGSTOP)
        with Claims(shared_folder).held("scoring") as claim:
            process.send_signal(signal.SIGCONT)
            told, _ = process.communicate("on\n")
            assert "another process has taken over" in told
            claim.check()
            assert isinstance(Claims(shared_folder).take("scoring"), ProcessMark)


def test_a_claim_whose_file_is_gone_is_lost(folder, quick):
    claim = Claims(folder).take("scoring")
    for name in left(folder):
        (folder / name).unlink()
    time.sleep(0.5)  # some beats
    with pytest.raises(WorkError, match="sign of life"):
        claim.check()
    claim.release()
    assert left(folder) == []


def test_claims_of_the_dead_are_removed_and_no_others(tmp_path):
    marks = {"dead": mark_of_dead(), "elsewhere": mark_elsewhere()}
    for mark in marks.values():
        (tmp_path / f"scoring@{mark}").touch()
    with Claims(tmp_path).take("other"):
        assert Claims(tmp_path).remove_dead() == 1
        assert len(left(tmp_path)) == 2
    assert left(tmp_path) == [f"scoring@{marks['elsewhere']}"]


def test_a_full_disk_leaves_no_claim(tmp_path, monkeypatch):
    def full(path, _mark):
        path.parent.mkdir()
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(claims, "create_claim", full)
    with pytest.raises(OSError, match="No space left"):
        Claims(tmp_path / "claims").take("scoring")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    Claims(tmp_path / "claims").take("scoring").release()


def test_a_forked_child_does_not_release_what_its_parent_holds(tmp_path):
    with Claims(tmp_path / "claims").take("scoring") as claim:
        child = os.fork()
        if child == 0:
            claim.release()
            os._exit(0)
        os.waitpid(child, 0)
        claim.check()


def test_a_release_that_the_disk_refused_blocks_nobody_in_this_process(folder, monkeypatch):
    """As on a file system that became read-only under the work: the same process may try again later."""
    claim, other = Claims(folder).take("scoring"), Claims(folder)

    def refused(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(claims, "remove_claim", refused)
        assert isinstance(other.take("scoring"), ProcessMark)
        with pytest.raises(OSError, match="Read-only"):
            claim.release()
    assert left(folder) != []
    with other.take_or_refuse("scoring") as mine:
        mine.check()
    assert left(folder) == []


def test_two_that_meet_both_withdraw_and_one_gets_it(tmp_path, monkeypatch):
    """Both have looked before either creates its file: the race that a check and a creation alone would lose."""
    gate, look = threading.Barrier(2), Claims._look
    waits = threading.local()

    def look_together(self, kind, without=""):
        found = look(self, kind, without)
        if not without and not getattr(waits, "over", False):
            waits.over = True
            gate.wait(timeout=30)
        return found

    monkeypatch.setattr(Claims, "_look", look_together)
    (tmp_path / f"scoring@{mark_of_dead()}").touch()  # which both see
    inside, most, lock = [0], [0], threading.Lock()

    def work():
        with Claims(tmp_path).held("scoring"):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.3)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert most == [1]
    assert left(tmp_path) == []


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    def raced(path, _mode=0o777):
        monkeypatch.undo()
        raise FileExistsError(errno.EEXIST, "File exists", str(path))  # and then it is gone

    monkeypatch.setattr(os, "mkdir", raced)
    with Claims(tmp_path / ".claims").take("shard") as claim:
        claim.check()


def test_living_claims_of_a_kind_are_counted(tmp_path):
    claims = Claims(tmp_path / "claims")
    assert claims.living("shard-") == 0
    with claims.held("shard-0000001"), claims.held("shard-0000002"), claims.held("scoring"):
        (tmp_path / "claims" / f"shard-0000003@{mark_of_dead()}").touch()
        (tmp_path / "claims" / f"shard-0000004@{mark_elsewhere()}").touch()
        assert claims.living("shard-") == 3
        assert claims.living("scoring") == 1

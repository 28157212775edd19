"""Marks tell living processes from dead ones, also where a number is used again, and keep quiet of other machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from claiming import mark_elsewhere, mark_of_dead
from scalselect import process_mark
from scalselect.process_mark import mark_of, new_mark

has_proc = pytest.mark.skipif(not process_mark._proc_is_ours(), reason="the system has no /proc")


def test_a_mark_survives_being_a_name_and_is_new_every_time():
    mark = new_mark()
    assert mark_of(str(mark)) == mark
    assert mark.is_here
    assert not mark.is_dead
    assert mark.words.endswith(f", process {os.getpid()}")
    assert new_mark() != mark
    assert "/" not in str(mark)


@pytest.mark.parametrize(
    "text", ["", "1", "a-b", "host-x-1-01234567", "host-1-1-0123456", "-1-1-01234567", "h-1-1-XYZ"]
)
def test_other_names_are_no_marks(text):
    assert mark_of(text) is None


def test_dead_processes_are_dead():
    mark = mark_of_dead()
    assert mark.is_here
    assert mark.is_dead
    assert mark._replace(process=10**30).is_dead


@has_proc
def test_a_process_whose_end_nobody_asked_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process_mark._facts(process.pid)[2]
    mark = new_mark()._replace(process=process.pid, started=started)
    assert not mark.is_dead
    process.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 10
    while not mark.is_dead and time.monotonic() < ends:
        time.sleep(0.01)
    assert mark.is_dead
    os.kill(process.pid, 0)  # its number is taken still
    process.communicate()


@has_proc
def test_a_stopped_process_lives():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = new_mark()._replace(process=process.pid, started=process_mark._facts(process.pid)[2])
        process.send_signal(signal.SIGSTOP)
        assert not mark.is_dead
        process.send_signal(signal.SIGKILL)


@has_proc
def test_a_number_that_was_given_away_again_is_not_the_process():
    mark = new_mark()
    assert mark._replace(started=mark.started - 1).is_dead
    assert mark.is_certain
    assert not mark._replace(started=0).is_dead  # of one that could not tell
    assert not mark._replace(started=0).is_certain
    assert not mark_elsewhere().is_certain


def test_of_other_machines_boots_and_containers_nothing_is_known(monkeypatch):
    assert not mark_elsewhere().is_here
    assert not mark_elsewhere().is_dead
    mark = mark_of_dead()
    monkeypatch.setattr(process_mark, "_place", lambda: mark.place[:-1] + "x")
    assert not mark.is_dead


def test_a_child_has_a_mark_of_its_own():
    here = new_mark()
    code = "from scalselect.process_mark import new_mark; print(new_mark())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    child = mark_of(ended.stdout.strip())
    assert child.place == here.place
    assert (child.process, child.started) != (here.process, here.started)

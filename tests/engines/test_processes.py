"""Results come in the order of their tasks whatever the processes do; one that dies or hangs costs its part alone."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time

import pytest

from scalselect.engines import helpers
from scalselect.engines.processes import Narrowed, Processes, can_fork, mark, results_in_order

pytestmark = pytest.mark.skipif(not can_fork, reason="processes are forked on Linux alone")


def halved(task, _part):
    middle = len(task) // 2
    return Narrowed([task[:middle], task[middle:]], None, []) if middle else Narrowed([], task, [])


def parted(task, part):
    if part not in task:
        return halved(task, part)
    place = task.index(part)
    others = [task[:place], task[place + 1 :]]
    return Narrowed(others[:1] if place else [], task[place : place + 1], others[1:] if others[1] else [])


def lost(task, loss):
    return ("lost", list(task), str(loss))


def squares(task):
    return [number**2 for number in task]


def results(work, tasks, processes=2, narrowed=halved, seconds=None):
    return list(results_in_order(work, tasks, processes, narrowed=narrowed, lost=lost, seconds=seconds))


def ranges(stop, size):
    return [range(begin, min(begin + size, stop)) for begin in range(0, stop, size)]


def marking(guilty, fault):
    def work(task):
        found = []
        for number in task:
            mark(number)
            if number in guilty:
                fault()
            found.append(number**2)
        return found

    return work


def flat(found):
    return [value for result in found for value in (result[1] if isinstance(result, tuple) else result)]


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_results_come_in_order(processes):
    def slow_first(task):
        time.sleep(0.02 * (task[0] == 0))
        return squares(task)

    assert results(slow_first, ranges(50, 4), processes) == [squares(task) for task in ranges(50, 4)]
    assert results(slow_first, [], processes) == []


def test_work_is_done_elsewhere():
    pids = set(results(lambda _task: os.getpid(), ranges(20, 1), 2))
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert results(lambda _task: os.getpid(), ranges(3, 1), 0) == [os.getpid()] * 3


@pytest.mark.parametrize("narrowed", [halved, parted])
@pytest.mark.parametrize("guilty", [{13}, {0}, {49}, {12, 13, 40}])
def test_a_process_that_dies_costs_the_guilty_rows_alone(guilty, narrowed):
    work = marking(guilty, lambda: os.kill(os.getpid(), signal.SIGKILL))
    found = results(work, ranges(50, 8), narrowed=narrowed)
    assert [number for result in found if isinstance(result, tuple) for number in result[1]] == sorted(guilty)
    assert flat(found) == [number if number in guilty else number**2 for number in range(50)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "its process died of SIGSEGV"),
        (os.abort, "its process died of SIGABRT"),
        (lambda: os._exit(3), "its process ended with exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 1), "its process died of signal 35"),
    ],
)
def test_it_is_told_how_a_process_died(fault, words):
    found = results(marking({5}, fault), ranges(12, 4), 1, parted)
    assert [result for result in found if isinstance(result, tuple)] == [("lost", [5], words)]
    assert flat(found) == [number if number == 5 else number**2 for number in range(12)]


class _Panic(BaseException):
    """As libraries written in Rust raise it: no Exception."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, _Panic("no more")])
def test_an_interrupt_or_a_panic_of_a_library_leaves_no_traceback(error, capfd):
    def fault():
        raise error

    found = results(marking({5}, fault), ranges(12, 4), 1, parted)
    told = ("lost", [5], "its process ended with exit code 1")
    assert [result for result in found if isinstance(result, tuple)] == [told]
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_for_a_process_alone_changes_nothing(capfd):
    found = results(marking({5}, lambda: os.kill(os.getpid(), signal.SIGINT)), ranges(12, 4), 1, parted)
    assert flat(found) == [number**2 for number in range(12)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "hang",
    [
        lambda: time.sleep(1e6),
        lambda: ctypes.PyDLL(None).sleep(1000),  # never gives the interpreter back
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_part_that_hangs_costs_itself_and_twice_its_time(hang, processes):
    began = time.monotonic()
    found = results(marking({5}, hang), ranges(24, 4), processes, parted, seconds=0.3)
    seconds = time.monotonic() - began
    assert [result for result in found if isinstance(result, tuple)] == [
        ("lost", [5], "it took longer than 0.3 seconds")
    ]
    assert flat(found) == [number if number == 5 else number**2 for number in range(24)]
    assert 0.6 < seconds < 20  # where others use the same processors


def test_one_that_was_stopped_before_it_began_is_replaced(monkeypatch):
    """Nothing is under way in it whose time could be over."""
    monkeypatch.setattr(helpers, "_SECONDS_TO_BEGIN", 0.2)
    kept = Processes(lambda number: number**2, 1, narrowed=parted, lost=lambda *_: "lost", seconds=0.3)
    with kept:
        assert list(kept.results([1, 2])) == [1, 4]
        stopped = kept._helpers[0]._process.pid
        os.kill(stopped, signal.SIGSTOP)
        awake = threading.Timer(30, os.kill, (stopped, signal.SIGCONT))  # else this test would not fail but stand still
        awake.start()
        assert list(kept.results([3, 4])) == [9, 16]
        awake.cancel()
        assert [helper._process.pid for helper in kept._helpers] != [stopped]


def test_the_limit_holds_for_a_part_and_not_for_the_time_that_results_wait():
    work = marking(set(range(12)), lambda: time.sleep(0.03))
    with Processes(work, 1, narrowed=parted, lost=lost, seconds=0.2) as kept:
        found = []
        for result in kept.results([range(12), range(12), range(12)]):  # each takes longer than a part may
            found.append(result)
            time.sleep(0.25)
    assert found == [squares(range(12))] * 3


def test_what_died_once_is_done_again_as_a_whole(tmp_path):
    def work(task):
        mark(task[1])
        if task[0] == 4 and not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return squares(task)

    assert results(work, ranges(12, 4), narrowed=parted) == [squares(task) for task in ranges(12, 4)]
    assert (tmp_path / "seen").exists()


def test_what_the_work_raises_comes_out_as_it_is():
    def work(task):
        if 5 in task:
            raise KeyError("five")
        return squares(task)

    with pytest.raises(KeyError, match="five"):
        results(work, ranges(20, 2))


def test_only_a_few_tasks_are_taken_ahead():
    taken = []

    def tasks():
        for task in ranges(1000, 1):
            taken.append(task)
            yield task

    def slow_first(task):
        time.sleep(0.5 * (task[0] == 0))
        return squares(task)

    iterator = results_in_order(slow_first, tasks(), 2, narrowed=halved, lost=lost)
    next(iterator)  # one process was held up, the other one went on: what is finished takes memory as well
    assert len(taken) < 20
    iterator.close()


def test_nothing_is_left_behind_when_the_reader_stops():
    before = set(multiprocessing.active_children())
    iterator = results_in_order(squares, ranges(100, 1), 2, narrowed=halved, lost=lost)
    next(iterator)
    assert set(multiprocessing.active_children()) - before
    iterator.close()
    assert set(multiprocessing.active_children()) == before


def test_processes_are_kept_from_call_to_call():
    with Processes(lambda _task: os.getpid(), 2, narrowed=halved, lost=lost) as kept:
        first = set(kept.results(ranges(20, 1)))
        second = set(kept.results(ranges(20, 1)))
        assert first == second
        stopped = kept.results(ranges(20, 1))
        next(stopped)
        stopped.close()
        assert set(kept.results(ranges(20, 1)))  # of what was given up nothing comes
    assert not {child.pid for child in multiprocessing.active_children()} & first


def test_an_idle_process_that_is_killed_is_replaced():
    with Processes(lambda task: (os.getpid(), squares(task)), 1, narrowed=halved, lost=lost) as kept:
        [(process, _)] = kept.results([range(3)])
        os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
        [(other, found)] = kept.results([range(3)])
        assert found == squares(range(3))
        assert other != process

"""Results come in the order of their tasks whatever the processes do; one that dies costs the guilty part alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from scalselect.engines.processes import can_fork, results_in_order

pytestmark = pytest.mark.skipif(not can_fork, reason="processes are forked on Linux alone")


def halves(task):
    middle = len(task) // 2
    return [task[:middle], task[middle:]] if middle else []


def squares(task):
    return [number**2 for number in task]


def results(work, tasks, processes=2):
    return list(results_in_order(work, tasks, processes, halves=halves, died=lambda task: ("died", list(task))))


def ranges(stop, size):
    return [range(begin, min(begin + size, stop)) for begin in range(0, stop, size)]


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_results_come_in_order(processes):
    def slow_first(task):
        time.sleep(0.02 * (task[0] == 0))
        return squares(task)

    assert results(slow_first, ranges(50, 4), processes) == [squares(task) for task in ranges(50, 4)]
    assert results(slow_first, [], processes) == []


def test_work_is_done_elsewhere():
    pids = set(results(lambda _task: os.getpid(), ranges(20, 1), 2))
    assert os.getpid() not in pids
    assert results(lambda _task: os.getpid(), ranges(3, 1), 0) == [os.getpid()] * 3


@pytest.mark.parametrize("guilty", [{13}, {0}, {49}, {12, 13, 40}])
def test_a_process_that_dies_costs_the_guilty_rows_alone(guilty):
    def work(task):
        if guilty & set(task):
            os.kill(os.getpid(), signal.SIGKILL)
        return squares(task)

    found = results(work, ranges(50, 8))
    dead = [number for result in found if isinstance(result, tuple) for number in result[1]]
    assert dead == sorted(guilty)
    flat = [value for result in found for value in (result[1] if isinstance(result, tuple) else result)]
    assert flat == [number if number in guilty else number**2 for number in range(50)]


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

    iterator = results_in_order(squares, tasks(), 2, halves=halves, died=lambda _task: None)
    next(iterator)
    assert len(taken) < 20
    iterator.close()


def test_nothing_is_left_behind_when_the_reader_stops():
    before = set(multiprocessing.active_children())
    iterator = results_in_order(squares, ranges(100, 1), 2, halves=halves, died=lambda _task: None)
    next(iterator)
    assert set(multiprocessing.active_children()) - before
    iterator.close()
    assert set(multiprocessing.active_children()) == before

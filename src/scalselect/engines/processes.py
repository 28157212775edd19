"""Tasks done in processes of their own, results in order; a task that kills its process costs itself only."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 3  # tasks handed out for each process
_SIGNAL_AT_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl

can_fork = sys.platform == "linux"

_work: Callable[[Any], Any]


def usable_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results_in_order(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    processes: int,
    *,
    halves: Callable[[Task], Sequence[Task]],
    died: Callable[[Task], Result],
) -> Iterator[Result]:
    """Yield what `work` makes of every task, in order; of a task that was halved, what it makes of each part.

    Parameters
    ----------
    work
        Forked with everything it holds on Linux, pickled elsewhere.
    processes
        Number of processes; 0 does the tasks here.
    halves
        Returns the parts of a task whose process died; none where it cannot be parted.
    died
        Returns the result for a task that kills its process and cannot be parted.

    Raises
    ------
    Exception
        Whatever `work` raises, in this process.
    """
    if not processes:
        yield from map(work, tasks)
        return
    left = iter(tasks)
    while True:
        with _executor(work, processes) as executor:
            try:
                suspects = yield from _until_one_dies(executor, left, processes)
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
        if not suspects:
            return
        for task, result in suspects:
            if result is not None and not result.cancelled() and result.done() and result.exception() is None:
                yield result.result()
            else:
                yield from _alone(work, task, halves, died)


def _until_one_dies(
    executor: ProcessPoolExecutor, left: Iterator[Any], processes: int
) -> Generator[Any, None, deque[tuple[Any, Future[Any] | None]]]:
    """Yield results; return the tasks that were under way when a process died, with what became of them."""
    under_way: deque[tuple[Any, Future[Any] | None]] = deque()
    while True:
        for task in islice(left, processes * _AHEAD - len(under_way)):
            try:
                under_way.append((task, executor.submit(_do, task)))
            except BrokenProcessPool:
                under_way.append((task, None))
                return under_way
        if not under_way:
            return under_way
        future = under_way[0][1]
        try:
            result = future.result()  # type: ignore[union-attr]  # None is handed back above
        except BrokenProcessPool:
            return under_way
        under_way.popleft()
        yield result


def _alone(
    work: Callable[[Task], Result],
    task: Task,
    halves: Callable[[Task], Sequence[Task]],
    died: Callable[[Task], Result],
) -> Iterator[Result]:
    """Do a task in a process that does nothing else; where that dies, its parts."""
    with _executor(work, 1) as executor:
        try:
            result = executor.submit(_do, task).result()
        except BrokenProcessPool:
            parts = halves(task)
        else:
            yield result
            return
    if not parts:
        yield died(task)
    for part in parts:
        yield from _alone(work, part, halves, died)


def _executor(work: Callable[[Any], Any], processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("fork" if can_fork else "spawn")
    return ProcessPoolExecutor(processes, context, _begin, (work, os.getpid()))


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    global _work  # noqa: PLW0603  one for each process
    _work = work
    # Ctrl-C reaches the whole group of processes; the one that waits for results ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # so does the end of a terminal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if can_fork:
        ctypes.CDLL(None).prctl(_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed a moment ago
            os._exit(1)


def _do(task: Any) -> Any:
    return _work(task)

"""Tasks done in processes, results in order; a part of a task that kills its process or hangs costs itself only.

What was under way in a process that died, or took too long, is done again in a process that does nothing else. Where
that happens again, the part that was under way is told apart from the others, which are done without it.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scalselect.engines.held_signals import signals_held
from scalselect.engines.helpers import Failed, Helper, Loss, Place, can_fork, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = ["Loss", "Narrowed", "Processes", "can_fork", "mark", "results_in_order", "usable_cpus"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks handed out for each process


def usable_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Narrowed(Generic[Task]):
    """A task that failed, parted: what is blamed, and what is done without it, in order before and after it.

    Where the task cannot be parted, all of it is blamed. Where nobody knows what to blame, `blamed` is None.
    """

    before: Sequence[Task]
    blamed: Task | None
    after: Sequence[Task]


def _nothing() -> None:
    pass


class Processes(Generic[Task, Result]):
    """Processes that do tasks; started when there is something to do, kept until they are closed.

    Parameters
    ----------
    work
        Forked with everything it holds on Linux, pickled elsewhere. May tell with `mark` which part it begins.
    processes
        Number of processes, at least 1.
    narrowed
        Returns the parts of a task that failed while a part was under way, as `mark` told it; -1 where none was.
    lost
        Returns the result of a task that cannot be parted and kills its process, or takes too long, also alone.
    seconds
        Longest time that a part may take; None: any.
    begin
        Called first in every new process.
    around_start
        Entered while a process is started.
    """

    def __init__(
        self,
        work: Callable[[Task], Result],
        processes: int,
        *,
        narrowed: Callable[[Task, int], Narrowed[Task]],
        lost: Callable[[Task, Loss], Result],
        seconds: float | None = None,
        begin: Callable[[], None] = _nothing,
        around_start: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._processes = processes
        self._narrowed = narrowed
        self._lost = lost
        self._seconds = seconds
        self._new_helper: Callable[[], Helper] = lambda: Helper(work, begin, around_start)
        self._helpers: list[Helper] = []
        self._again: deque[Place] = deque()
        self._close = weakref.finalize(self, _end_all, self._helpers, os.getpid())

    def results(self, tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """Yield what the work makes of every task, in order; of a task that was parted, what it makes of each part.

        Raises
        ------
        Exception
            Whatever the work or `lost` raises, in this process.
        """
        left = iter(tasks)
        waiting: deque[Place] = deque()
        try:
            while True:
                self._hand_out(left, waiting)
                if not waiting:
                    return
                head = waiting[0]
                if head.lost:
                    waiting.popleft()
                    yield from self._alone(head.task)
                elif head.outcome is None:
                    self._watch(self._helpers)
                else:
                    waiting.popleft()
                    yield _result_of(head)
        finally:  # what nobody waits for any more is not done to its end
            self._again.clear()
            with signals_held():
                for helper in [helper for helper in self._helpers if helper.given]:
                    self._helpers.remove(helper)
                    helper.end()

    def close(self) -> None:
        """End all processes; they are started again should there be more tasks."""
        _end_all(self._helpers, os.getpid())

    def __enter__(self) -> Processes[Task, Result]:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self.close()

    def _hand_out(self, left: Iterator[Task], waiting: deque[Place]) -> None:
        while True:
            fewest = min(self._helpers, key=lambda helper: len(helper.given), default=None)
            may_start = len(self._helpers) < self._processes
            if fewest is not None and len(fewest.given) >= _AHEAD and not may_start:
                return
            if self._again:
                place = self._again.popleft()
            elif len(waiting) >= self._processes * _AHEAD:  # finished ones behind a slow one take memory as well
                return
            else:
                try:
                    place = Place(next(left))
                except StopIteration:
                    return
                waiting.append(place)
            if fewest is None or (fewest.given and may_start):
                fewest = self._started(self._helpers)
            fewest.give(place)

    def _started(self, among: list[Helper]) -> Helper:
        with signals_held():  # until whoever ends it knows of it
            among.append(self._new_helper())
        return among[-1]

    def _watch(self, helpers: list[Helper]) -> Loss | None:
        """Wait until something happens to helpers; take away those that died or hang; return how the last did."""
        loss = None
        timeout = None
        if self._seconds is not None:
            left = [helper.seconds_left(self._seconds) for helper in helpers if helper.given]
            timeout = max(0.0, min(self._seconds, *left))  # one that is idle now may begin at once
        ready = wait([end for helper in helpers for end in (helper.connection, helper.sentinel)], timeout)
        for helper in list(helpers):
            try:
                if helper.connection in ready:
                    helper.take()
                    continue
                gone = helper.sentinel in ready and not helper.connection.poll()
            except (EOFError, ConnectionError):
                gone = True
            limit = self._seconds
            hangs = limit is not None and bool(helper.given) and helper.seconds_left(limit) < 0
            if gone or hangs:
                with signals_held():
                    helpers.remove(helper)
                    loss = helper.died() if gone or limit is None else helper.hung(limit)
                if helper.given:
                    helper.given.popleft().lost = True
                    self._again += helper.given
        return loss

    def _alone(self, task: Task) -> Iterator[Result]:
        """Do a task in a process that does nothing else; where that fails, its parts."""
        place, loss = Place(task), None
        alone: list[Helper] = []
        try:
            helper = self._started(alone)
            helper.give(place)
            while place.outcome is None and loss is None:
                loss = self._watch(alone)
        finally:
            _end_all(alone, os.getpid())
        if loss is None:
            yield _result_of(place)
            return
        parts = self._narrowed(task, helper.part)
        for part in parts.before:
            yield from self._alone(part)
        if parts.blamed is not None:
            # One that hangs was seen to do so twice by now, and each time costs as much as a sample may take.
            if loss.seconds is not None or not (parts.before or parts.after):
                yield self._lost(parts.blamed, loss)
            else:
                yield from self._alone(parts.blamed)
        for part in parts.after:
            yield from self._alone(part)


def results_in_order(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    processes: int,
    *,
    narrowed: Callable[[Task, int], Narrowed[Task]],
    lost: Callable[[Task, Loss], Result],
    seconds: float | None = None,
) -> Iterator[Result]:
    """Yield what `work` makes of every task, in order, as `Processes` does; with 0 processes, here.

    Raises
    ------
    Exception
        Whatever `work` or `lost` raises, in this process.
    """
    if not processes:
        yield from map(work, tasks)
        return
    with Processes(work, processes, narrowed=narrowed, lost=lost, seconds=seconds) as kept:
        yield from kept.results(tasks)


def _result_of(place: Place) -> Any:
    outcome = place.outcome
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome.result  # type: ignore[union-attr]  # awaited by whoever calls


def _end_all(helpers: list[Helper], owner: int) -> None:
    if os.getpid() != owner:  # a fork holds a copy of the object, and the processes are not its own
        return
    with signals_held():
        while helpers:
            helpers.pop().end()

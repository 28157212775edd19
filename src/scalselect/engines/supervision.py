"""Tasks handed to workers as they come free; the dead replaced, failures tried again, the slow overtaken at the end.

Only a worker that has begun is given a task, and each has one at a time, so that a worker that dies costs one attempt
of one task. Tasks are taken from their source as workers come free: what is kept is what is under way.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scalselect.engines.crew import Crew, Died, Done, Raised, Ready, Retaken
from scalselect.engines.outcomes import Outcome
from scalselect.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from scalselect.engines.crew import Event
    from scalselect.engines.retrying import Retrying

Task = TypeVar("Task")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_STARTS = 3  # of one worker, one after another, that may fail before it is given up
_REMEMBERED = 200  # durations of tasks, to know what is usual
_SICK = 3  # tasks, one after another, that fail at a worker while others do theirs: it is begun anew
_SLOW = 3.0  # times the usual, after which a task is given to an idle worker as well
_SECONDS_UNTIL_SLOW = 10.0  # at least: short tasks are not worth it


@dataclass(slots=True, eq=False)
class _Open(Generic[Task]):
    """A task that is not finished."""

    task: Task
    attempts: int = 0
    by: set[int] = field(default_factory=set)  # workers that are at it
    failed_at: set[int] = field(default_factory=set)  # workers; one that is broken fails at everything, and fast
    began: float = 0.0
    is_taken: bool = False  # from a worker that died, or is slow


class Supervisor(Generic[Task, Result]):
    """Lets a crew do tasks.

    Parameters
    ----------
    workers
        Number of workers, at least 1; all are started at once.
    retrying
        What is done about failures.
    overtaking
        Whether a task that takes much longer than usual is given to an idle worker as well, once no others are left.
        The work must allow for it to be done twice at once; the first result counts.
    say
        Is told in a sentence what a user should know of workers.
    name
        Returns what a task is called in it.
    clock
        Returns seconds.

    Attributes
    ----------
    alive
        Number of workers that have begun and live.
    replaced
        Number of workers that were started again: they died, or failed at task after task while others did not.
    overtaken
        Number of tasks that were given to a second worker while a first one was at them.
    """

    def __init__(
        self,
        crew: Crew,
        workers: int,
        *,
        retrying: Retrying,
        overtaking: bool = False,
        say: Callable[[str], None] = _log.info,
        name: Callable[[Task], str] = lambda task: f"task {task}",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crew = crew
        self._retrying = retrying
        self._overtaking = overtaking
        self._say = say
        self._name = name
        self._clock = clock
        self._idle: deque[int] = deque()
        self._busy: dict[int, _Open[Task]] = {}
        self._starting: dict[int, int] = dict.fromkeys(range(workers), 0)  # to failed starts before
        self._facts: list[Any] = []  # of the first that began
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._finished: deque[Outcome[Task, Result]] = deque()
        self._again: deque[_Open[Task]] = deque()
        # To the failures of a worker, one after another, and the number of tasks done anywhere before the first.
        self._in_a_row: dict[int, tuple[int, int]] = {}
        self._done = 0
        self.replaced = self.overtaken = 0
        for worker in range(workers):
            crew.start(worker)

    @property
    def alive(self) -> int:
        """Number of workers that have begun and live."""
        return len(self._idle) + len(self._busy)

    def facts(self) -> Any:
        """Wait until a worker has begun, and return its facts.

        Raises
        ------
        WorkError
            If none could be started.
        Exception
            What beginning raised, where it is one of the fatal ones.
        """
        while not self._facts:
            self._hear(None)
        return self._facts[0]

    def results(self, tasks: Iterable[Task]) -> Generator[Outcome[Task, Result], None, None]:
        """Yield the outcome of every task, once each, as they come.

        Raises
        ------
        WorkError
            If no worker is left and none can be started.
        Exception
            What is fatal, at once.
        """
        left = iter(tasks)
        more = True
        while True:
            more = self._hand_out(left) and more  # in this order: failed tasks are handed out when no others are left
            while self._finished:
                yield self._finished.popleft()
            if not more and not self._again and not self._busy_tasks():
                return
            self._hear(self._overtake())

    def close(self) -> None:
        """End all workers."""
        self._crew.close()

    def __enter__(self) -> Supervisor[Task, Result]:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self.close()

    def _busy_tasks(self) -> list[_Open[Task]]:
        return [opened for opened in self._busy.values() if opened.by]

    def _hand_out(self, left: Iterator[Task]) -> bool:
        """Give tasks to idle workers; return whether there may be more in `left`."""
        more = True
        for worker in tuple(self._idle):
            opened = self._to_try_again(worker) or next((_Open(task) for task in left), None)
            if opened is None:
                more = False
            else:
                self._give(opened, worker)
        return more

    def _to_try_again(self, worker: int) -> _Open[Task] | None:
        """Take a failed task that a worker may try: one that failed elsewhere, or that no other worker is there for."""
        if not self._again:
            return None
        working = [*self._idle, *(other for other, opened in self._busy.items() if opened.by)]
        for opened in self._again:
            if worker not in opened.failed_at or opened.failed_at.issuperset(working):
                self._again.remove(opened)
                return opened
        return None

    def _give(self, opened: _Open[Task], worker: int) -> None:
        self._idle.remove(worker)
        opened.by.add(worker)
        opened.began = self._clock()
        self._busy[worker] = opened
        self._crew.give(worker, Retaken(opened.task) if opened.is_taken else opened.task)

    def _overtake(self) -> float | None:
        """Give tasks that take long to idle workers; return in how many seconds to look again."""
        if not self._overtaking or not self._idle or not self._seconds:
            return None
        limit = max(_SLOW * statistics.median(self._seconds), _SECONDS_UNTIL_SLOW)
        waits: list[float] = []
        for opened in sorted(self._busy_tasks(), key=lambda opened: opened.began):
            worker = next((worker for worker in self._idle if worker not in opened.failed_at), None)
            if worker is None or len(opened.by) > 1:
                continue
            left = opened.began + limit - self._clock()
            if left > 0:
                waits.append(left)
                continue
            self.overtaken += 1
            busy, seconds = min(opened.by), self._clock() - opened.began
            self._say(
                f"worker {busy} has been at {self._name(opened.task)} for {seconds:.0f} s, much longer than usual: "
                f"worker {worker} does it as well"
            )
            began, opened.is_taken = opened.began, True
            self._give(opened, worker)
            opened.began = began
        return min(waits, default=None)

    def _hear(self, seconds: float | None) -> None:
        for event in self._crew.events(seconds):
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Ready(worker, facts):
                self._starting.pop(worker, None)
                self._idle.append(worker)
                if not self._facts:
                    self._facts.append(facts)
            case Done(worker, result):
                self._done += 1
                self._in_a_row.pop(worker, None)
                opened = self._freed(worker)
                if opened is not None:
                    self._seconds.append(self._clock() - opened.began)
                    opened.by.clear()
                    self._finished.append(Outcome(opened.task, result, None, opened.attempts + 1))
            case Raised(worker, error):
                if isinstance(error, self._retrying.fatal):
                    raise error
                if worker in self._starting:
                    self._crew.end(worker)
                    self._start_again(worker, f"{type(error).__name__}: {error}")
                else:
                    again = self._retrying.worth_retrying(error)
                    self._failed(self._freed(worker), worker, error, again)
                    if again:
                        self._replace_if_sick(worker, error)
            case Died(worker, how):
                self._died(worker, how)

    def _freed(self, worker: int) -> _Open[Task] | None:
        """Take a worker's task off it; None where another one has finished it."""
        opened = self._busy.pop(worker)
        self._idle.append(worker)
        return opened if opened.by else None

    def _failed(self, opened: _Open[Task] | None, worker: int, error: Exception, again: bool) -> None:
        if opened is None:
            return
        opened.by.discard(worker)
        opened.failed_at.add(worker)
        opened.attempts += 1
        if opened.by:  # another one is at it still
            return
        _log.debug("task %s failed at attempt %d: %s", opened.task, opened.attempts, error)
        if again and opened.attempts < self._retrying.attempts:
            self._again.append(opened)
        else:
            self._finished.append(Outcome(opened.task, None, error, opened.attempts))

    def _died(self, worker: int, how: str) -> None:
        if worker in self._starting:
            self._start_again(worker, how)
            return
        opened = self._busy.get(worker)
        if opened is not None:
            freed = self._freed(worker)
            at = "" if freed is None else f" at {self._name(opened.task)}"
            self._say(f"worker {worker} died{at}: {how}; it is replaced")
            if freed is not None:
                freed.is_taken = True
            self._failed(freed, worker, WorkError(f"its worker died: {how}"), True)  # noqa: FBT003
        else:
            self._say(f"worker {worker} died: {how}; it is replaced")
        self._replace(worker)

    def _replace_if_sick(self, worker: int, error: Exception) -> None:
        failures, done = self._in_a_row.get(worker, (0, self._done))
        self._in_a_row[worker] = (failures + 1, done)
        if failures + 1 < _SICK or self._done == done:  # where all fail it is not for the worker
            return
        self._say(f"worker {worker} failed at {failures + 1} tasks while others did not: {error}; it is replaced")
        self._crew.end(worker)
        self._replace(worker)

    def _replace(self, worker: int) -> None:
        self._in_a_row.pop(worker, None)
        self._idle.remove(worker)
        self.replaced += 1
        self._starting[worker] = 0
        self._crew.start(worker)

    def _start_again(self, worker: int, how: str) -> None:
        failures = self._starting.pop(worker) + 1
        if failures < _STARTS:
            self._say(f"worker {worker} could not begin: {how}; it is started again")
            self._starting[worker] = failures
            self._crew.start(worker)
            return
        self._say(f"worker {worker} is given up, it could not be started {failures} times: {how}")
        if not self._starting and not self.alive:
            raise WorkError(f"no worker could be started: {how}")

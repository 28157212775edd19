"""A crew whose workers take no time: a heap of events and a clock that jumps from one to the next.

It stands where a real engine's crew does, so that the real `Supervisor` can be watched over days of work in seconds:
workers of different speed, workers that die, nodes that leave with all their workers and come back or do not, starts
that take a minute and sometimes fail, a worker that hangs, a worker that raises at whatever it is given.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalselect.engines.crew import Died, Done, Raised, Ready, Retaken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.engines.crew import Event

NEVER = math.inf


class HeldUpError(Exception):
    """The job would not have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done, and by how many.

    Attributes
    ----------
    seconds, spread
        Mean time of a shard on a worker of usual speed, and the sigma of its lognormal distribution.
    a_node
        Workers of one node.
    """

    name: str
    shards: int
    workers: int
    seconds: float
    spread: float = 0.5
    a_node: int = 8

    def shard_seconds(self, seed: int) -> list[float]:
        """Draw the time of every shard on a worker of usual speed."""
        draw = random.Random(f"shards {seed}")
        middle = math.log(self.seconds) - self.spread**2 / 2  # so that the mean is `seconds`
        return [draw.lognormvariate(middle, self.spread) for _ in range(self.shards)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """What goes wrong.

    Attributes
    ----------
    slow, slowness
        Share of workers that are slow, and how many times as long they take.
    worker_hours, node_hours
        Mean time between failures of one worker while it works, and between departures of one node.
    away_minutes, gone
        Mean time until a node is back, and share of departures after which it never is.
    start_seconds, failed_starts
        Time until a worker takes tasks, the model loaded; and share of starts that fail after that time.
    hangs, sick
        Number of a worker that hangs for ever at its second task; of one that raises, after a second, at every task.
    """

    slow: float = 0.0
    slowness: float = 3.0
    worker_hours: float = NEVER
    node_hours: float = NEVER
    away_minutes: float = 10.0
    gone: float = 0.2
    start_seconds: float = 60.0
    failed_starts: float = 0.0
    hangs: int | None = None
    sick: int | None = None

    def slowness_of(self, workers: int, seed: int) -> list[float]:
        """Draw how many times as long as usual each worker takes; the share of slow ones is exact."""
        slow = set(random.Random(f"slow {seed}").sample(range(workers), round(self.slow * workers)))
        return [self.slowness if worker in slow else 1.0 for worker in range(workers)]


@dataclass(slots=True)
class Account:
    """What the workers did: seconds of first results, of second ones, of failed attempts; when one was first idle."""

    useful: float = 0.0
    twice: float = 0.0
    lost: float = 0.0
    first_idle: float = NEVER
    deaths: int = 0
    departures: int = 0


@dataclass(slots=True)
class _Worker:
    slowness: float
    there: bool = False  # begins, or has begun
    life: int = 0  # goes up with every start and end: what was foreseen for an earlier life does not happen
    ready: bool = False
    task: int | None = None
    since: float = 0.0
    given: int = 0


@dataclass(slots=True)
class _Node:
    back: float = 0.0  # when it is there again
    workers: list[int] = field(default_factory=list)


class VirtualCrew:
    """A crew on a virtual clock; tasks are numbers of shards.

    Parameters
    ----------
    horizon
        Seconds after which the job counts as held up for ever.

    Attributes
    ----------
    now
        Seconds since the job began.
    """

    def __init__(self, job: Job, troubles: Troubles, seed: int, *, horizon: float) -> None:
        self.now = 0.0
        self.account = Account()
        self._troubles, self._horizon = troubles, horizon
        self._draw = random.Random(f"crew {seed}")
        self._seconds = job.shard_seconds(seed)
        self._workers = [_Worker(slowness) for slowness in troubles.slowness_of(job.workers, seed)]
        self._a_node = job.a_node
        self._nodes = [_Node() for _ in range(-(-job.workers // job.a_node))]
        self._done: set[int] = set()
        self._heap: list[tuple[float, int, int, Event | None]] = []  # time, tie breaker, life, event; None: a departure
        self._pushed = self._idle = 0
        for number in range(job.workers):
            self._node_of(number).workers.append(number)
        for number in range(len(self._nodes)):
            self._foresee_departure(number, 0.0)

    def clock(self) -> float:
        """Return the seconds since the job began."""
        return self.now

    def start(self, worker: int) -> None:
        """Let a worker begin as soon as its node is there."""
        state = self._workers[worker]
        state.life += 1
        state.there = True
        back = max(self.now, self._node_of(worker).back)
        if back == NEVER:
            return
        until = back + self._troubles.start_seconds * self._draw.lognormvariate(0, 0.1)
        fails = self._draw.random() < self._troubles.failed_starts
        self._push(until, state.life, Died(worker, "it could not be started") if fails else Ready(worker, None))

    def give(self, worker: int, task: int | Retaken) -> None:
        """Foresee how a task ends on a worker."""
        state, task = self._workers[worker], task.task if isinstance(task, Retaken) else task
        if not state.ready or state.task is not None:
            raise AssertionError(f"worker {worker} was given task {task}, but is not free")
        state.task, state.since = task, self.now
        state.given += 1
        self._idle -= 1
        if worker == self._troubles.sick:
            self._push(self.now + 1, state.life, Raised(worker, RuntimeError("the accelerator does not answer")))
            return
        if worker == self._troubles.hangs and state.given == 2:  # noqa: PLR2004  the second, as `Troubles` says
            return
        needed = self._seconds[task] * state.slowness
        lives = self._exponential(3600 * self._troubles.worker_hours)
        if lives < needed:
            self._push(self.now + lives, state.life, Died(worker, "killed"))
        else:
            self._push(self.now + needed, state.life, Done(worker, task))

    def end(self, worker: int) -> None:
        """Let nothing happen to a worker any more."""
        self._stop(self._workers[worker])

    def events(self, seconds: float | None) -> Sequence[Event]:
        """Move the clock to the next event, or by `seconds` if nothing happens until then.

        Raises
        ------
        HeldUpError
            If the horizon is passed.
        """
        if self.account.first_idle == NEVER and self._idle:
            self.account.first_idle = self.now
        until = NEVER if seconds is None else self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            time, _, life, event = heapq.heappop(self._heap)
            if event is not None and self._workers[event.worker].life != life:
                continue
            self.now = time
            if self.now > self._horizon:
                raise HeldUpError
            return self._departure(life) if event is None else [self._happens(event)]
        if until == NEVER:
            raise HeldUpError
        self.now = until
        return []

    def close(self) -> None:
        """Count what is still under way as done twice: the job is over without it."""
        for state in self._workers:
            if state.task is not None:
                self.account.twice += self.now - state.since
            self._stop(state)

    def _happens(self, event: Event) -> Event:
        state = self._workers[event.worker]
        took, task = self.now - state.since, state.task
        match event:
            case Ready():
                state.ready = True
                self._idle += 1
            case Done():
                if task in self._done:
                    self.account.twice += took
                else:
                    self.account.useful += took
                    self._done.add(event.result)
                state.task = None
                self._idle += 1
            case Raised():
                self.account.lost += took
                state.task = None
                self._idle += 1
            case Died():
                self.account.deaths += state.ready
                self.account.lost += took if task is not None else 0.0
                self._stop(state)
        return event

    def _departure(self, number: int) -> list[Event]:
        """Let a node leave, with all its workers, those that begin among them."""
        node = self._nodes[number]
        self.account.departures += 1
        gone = self._draw.random() < self._troubles.gone
        node.back = NEVER if gone else self.now + self._exponential(60 * self._troubles.away_minutes)
        self._foresee_departure(number, node.back)
        return [self._happens(Died(worker, "its node left")) for worker in node.workers if self._workers[worker].there]

    def _foresee_departure(self, number: int, after: float) -> None:
        self._push(after + self._exponential(3600 * self._troubles.node_hours), number, None)

    def _push(self, time: float, life: int, event: Event | None) -> None:
        if time < NEVER:
            self._pushed += 1
            heapq.heappush(self._heap, (time, self._pushed, life, event))

    def _exponential(self, mean: float) -> float:
        return NEVER if mean == NEVER else self._draw.expovariate(1 / mean)

    def _node_of(self, worker: int) -> _Node:
        return self._nodes[worker // self._a_node]

    def _stop(self, state: _Worker) -> None:
        self._idle -= state.ready and state.task is None
        state.life += 1
        state.ready = state.there = False
        state.task = None


def ideal_seconds(job: Job, troubles: Troubles, seed: int) -> float:
    """Return the time if all workers worked without a pause until the end: work over the sum of speeds."""
    speed = sum(1 / slowness for slowness in troubles.slowness_of(job.workers, seed))
    return sum(job.shard_seconds(seed)) / speed

"""What an engine brings: workers that begin, do tasks one at a time, and may die. And what it tells of them.

A `Crew` knows how to start a worker and how to hand it a task; which task goes where, and what is done about failures,
is decided in one place for all engines (`scalselect.engines.supervision`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # Called once in a new worker, with the worker's number: returns what does its tasks, and facts for the supervisor.
    # Both the function and the facts are pickled.
    Begin = Callable[[int], tuple[Callable[[Any], Any], Any]]


@dataclass(frozen=True, slots=True)
class Retaken:
    """A task that another worker has, or had when it died: to be done whatever that one still holds of it."""

    task: Any


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has begun, and takes tasks from now on."""

    worker: int
    facts: Any


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has done its task."""

    worker: int
    result: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """Beginning, or a task, raised an error in a worker that lives on."""

    worker: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is no more; `how` tells in words how it ended."""

    worker: int
    how: str


Event = Ready | Done | Raised | Died


class Crew(Protocol):
    """Workers of one engine, by number; a number is used again for the worker that replaces a dead one."""

    def start(self, worker: int) -> None:
        """Let a worker begin. `Ready`, `Raised` or `Died` is told of it later; it must not take long itself."""

    def give(self, worker: int, task: Any) -> None:
        """Hand a task, or a `Retaken` one, to a worker that is ready and has none.

        `Done`, `Raised` or `Died` is told of it later.
        """

    def end(self, worker: int) -> None:
        """End a worker, whatever it does; nothing is told of it any more. Returns once it is gone, or cannot tell."""

    def events(self, seconds: float | None) -> Sequence[Event]:
        """Wait for something to happen and return it, in order; nothing once the time is up. None: wait for ever."""

    def close(self) -> None:
        """End all workers and leave nothing behind. May be called twice."""

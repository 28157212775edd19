"""One process that does tasks for this one, one after another, and tells how far it has come."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import mmap
import multiprocessing
import pickle
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scalselect.engines.parcels import receive, send
from scalselect.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

Error = TypeVar("Error", bound=BaseException)

SIGNAL_AT_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_SECONDS_TO_DIE = 10  # in which a process that closed its connection ends, be its memory ever so large
_SECONDS_TO_BEGIN = 60  # beyond those of a part, in which a process begins with what it was given
_NOTHING_BEGUN = -1
_IDLE = 0.0

can_fork = sys.platform == "linux"

_notes: memoryview[float] | None = None  # what this process, where it is a helper, tells: part, and when it was begun


def mark(part: int) -> None:
    """Tell that this process begins with a part of its task, if it is a helper; the limit of time holds for a part."""
    if _notes is not None and _notes[0] != part:
        _notes[1] = time.monotonic()  # first: read in between, an old time would look like a hang
        _notes[0] = part


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a task has no result.

    Attributes
    ----------
    seconds
        The limit that it exceeded; None where its process died.
    exit_code
        That of the process: negative numbers are signals.
    """

    seconds: float | None
    exit_code: int

    @property
    def killed(self) -> bool:
        """Whether the process was killed from outside, as systems do that are out of memory."""
        return self.seconds is None and self.exit_code == -signal.SIGKILL

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"it took longer than {self.seconds:g} seconds"
        if self.exit_code >= 0:
            return f"its process ended with exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:
            name = f"signal {-self.exit_code}"
        return f"its process died of {name}"


@dataclass(frozen=True, slots=True)
class Done:
    """What the work made of a task."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """What the work raised."""

    error: BaseException


@dataclass(slots=True, eq=False)
class Place:
    """A task in the order of tasks, and its outcome once there is one; `lost` where its process died."""

    task: Any
    outcome: Done | Failed | None = None
    lost: bool = False


class Helper:
    """A process that does tasks one after another. To be started and ended while signals are held.

    Parameters
    ----------
    work
        Forked with everything it holds on Linux, pickled elsewhere.
    begin
        Called first in the new process.
    around_start
        Entered while the process is started.

    Attributes
    ----------
    given
        Tasks that were handed over and did not come back, in order.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        begin: Callable[[], None],
        around_start: Callable[[], AbstractContextManager[None]],
    ) -> None:
        context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
        notes: Any = mmap.mmap(-1, 16) if can_fork else context.RawArray("d", 2)
        self._notes = _as_numbers(notes)
        self.given: deque[Place] = deque()
        self._idle_from: float | None = None  # seen so, though something was given
        self.connection, there = context.Pipe()
        self._process = context.Process(target=_live, args=(work, begin, there, self.connection, notes), daemon=True)
        try:
            with around_start():
                self._process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            there.close()

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process has ended."""
        number: int = self._process.sentinel
        return number

    @property
    def part(self) -> int:
        """The part that was begun last, as `mark` has it; -1 where none was."""
        return int(self._notes[0])

    def seconds_left(self, limit: float) -> float:
        """Return the time until the part under way, or beginning with what was given, takes longer than it may."""
        begun, now = self._notes[1], time.monotonic()
        if begun != _IDLE:
            self._idle_from = None
            return begun + limit - now
        if self._idle_from is None:
            self._idle_from = now
        return self._idle_from + limit + _SECONDS_TO_BEGIN - now  # it may be stopped, or have lost its task

    def give(self, place: Place) -> None:
        """Hand over a task."""
        if not self.given:
            self._idle_from = None
        self.given.append(place)
        with contextlib.suppress(ConnectionError):  # it is dead, which is noticed where results are awaited
            send(self.connection, place.task)

    def take(self) -> None:
        """Take the next result. Raises EOFError or ConnectionError where the process has died."""
        outcome = receive(self.connection)
        self._idle_from = None
        self.given.popleft().outcome = outcome

    def died(self) -> Loss:
        """Return how the process ended, which is gone or about to go."""
        self._process.join(_SECONDS_TO_DIE)
        self.end()
        return Loss(None, int(self._process.exitcode or 0))

    def hung(self, limit: float) -> Loss:
        """End the process, a part of whose task took longer than it may, and return that."""
        self.end()
        return Loss(limit, 0)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _live(
    work: Callable[[Any], Any],
    begin: Callable[[], None],
    connection: Connection,
    others_end: Connection,
    notes: Any,
) -> None:
    global _notes  # noqa: PLW0603  one for each process
    # Ctrl-C reaches the whole group of processes; the one that waits for results ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # so does the end of a terminal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if can_fork:
        # Should that one be killed, nobody reads on, and a process that waits to hand something over waits for ever.
        # Where that one was killed a moment ago, the connection has no other end, and this one ends below.
        ctypes.CDLL(None).prctl(SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)
        _leave_no_core()
    faulthandler.disable()  # how it died is told by the other process
    gc.freeze()  # what came along into the fork is not looked through again, and its pages stay shared
    others_end.close()
    _notes = _as_numbers(notes)
    begin()
    while True:
        try:
            task = receive(connection)
        except (EOFError, ConnectionError):
            return
        _notes[0], _notes[1] = _NOTHING_BEGUN, time.monotonic()
        outcome = _outcome_of(work, task)
        _notes[1] = _IDLE
        del task
        try:
            send(connection, outcome)
        except ConnectionError:  # nobody takes results any more
            return
        except Exception as error:  # noqa: BLE001  a result that cannot be pickled
            send(connection, Failed(picklable(error)))
        del outcome


def _outcome_of(work: Callable[[Any], Any], task: Any) -> Done | Failed:
    try:
        return Done(work(task))
    except Exception as error:  # noqa: BLE001  raised again where the results are awaited, as it is
        return Failed(picklable(error))
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001  an interrupt, or a library's panic: the process is not to be trusted any more
        raise SystemExit(1) from None  # how it ended is told by the other process, where a traceback would say nothing


def picklable(error: Error) -> Error | WorkError:
    """Return the error, or one of its words where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    except Exception:  # noqa: BLE001  an exception whose arguments cannot be sent
        return WorkError(f"{type(error).__name__}: {error}")
    return error


def _as_numbers(notes: Any) -> memoryview[float]:
    return memoryview(notes).cast("B").cast("d")


def _leave_no_core() -> None:
    """Write no image of the memory when this process crashes: it is as large as the model, and takes long."""
    import resource  # noqa: PLC0415  there is none on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

"""Workers that are processes of this machine: each a fresh Python process that lives as long as it is needed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, Any

from scalselect.engines.crew import Died, Raised
from scalselect.engines.held_signals import signals_held
from scalselect.engines.helpers import Loss
from scalselect.engines.parcels import receive, send
from scalselect.errors import MisuseError, WorkError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from scalselect.engines.crew import Begin, Event

_SECONDS_TO_LEAVE = 5.0  # that workers have to leave their work and clean up, before they are killed
_SECONDS_TO_DIE = (
    10.0  # in which a process that was killed, or closed its connection, ends, be its memory ever so large
)
_SECONDS_BETWEEN_LOOKS = 1.0  # where the system does not tell of ends of processes
# The module search path comes first: this package may lie where only the driver's script looked for it. `-P`, so that
# no file of the current folder is taken for a module of Python's.
_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from scalselect.engines.worker_process import main
main(int(sys.argv[1]))"""


class LocalCrew:
    """Worker processes of this machine.

    They are started anew, not forked: torch, CUDA and threads do not survive a fork. Nothing of the driver's main
    module is imported, so a script needs no ``if __name__ == "__main__"``. What they print goes to stderr. They end
    with the driver, however it ends; on Linux at once, elsewhere after their task at the latest.

    Parameters
    ----------
    begin
        Pickled to every worker, with what it holds. The work it returns is called in the worker's main thread; it may
        have a method `close`, which is called at the end unless the worker is killed. At SIGTERM the work is left by
        SystemExit.
    environments
        Environment variables of worker 0, 1, ..., beside those of this process; further workers have none of their own.

    Raises
    ------
    MisuseError
        On Windows.
    """

    def __init__(self, begin: Begin, *, environments: Sequence[Mapping[str, str]] = ()) -> None:
        if os.name != "posix":
            raise MisuseError(f"several workers need Linux or macOS: this is {sys.platform}; use one worker")
        self._begin = begin
        self._environments = environments
        self._processes: dict[int, _Process] = {}
        self._told: deque[Event] = deque()
        # Also where nobody closes it: at the latest when this process ends.
        self._close = weakref.finalize(self, _end_all, self._processes, os.getpid())

    def start(self, worker: int) -> None:
        """Let a worker begin; one that cannot be started is told of as dead.

        Raises
        ------
        Exception
            Whatever pickling `begin` raises.
        """
        own = self._environments[worker] if worker < len(self._environments) else {}
        try:
            with signals_held():  # until whoever ends it knows of it
                self._processes[worker] = process = _Process(worker, own)
        except OSError as error:
            self._told.append(Died(worker, f"its process could not be started: {error}"))
            return
        try:
            process.give(self._begin)
        except BaseException:
            self.end(worker)
            raise

    def give(self, worker: int, task: Any) -> None:
        """Hand a task to a worker; where it is dead, that is told later.

        Raises
        ------
        Exception
            Whatever pickling the task raises.
        """
        self._processes[worker].give(task)

    def end(self, worker: int) -> None:
        """End a worker, whatever it does; it has some seconds to clean up."""
        self._told = deque(event for event in self._told if event.worker != worker)
        if worker in self._processes:
            _end(self._processes, [worker])

    def events(self, seconds: float | None) -> Sequence[Event]:
        """Wait for something to happen and return it; nothing once the time is up. None: wait for ever."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            found = list(self._told)
            self._told.clear()
            left = None if until is None else max(0.0, until - time.monotonic())
            found += self._heard(0.0 if found else left)
            if found or left == 0.0:
                return found

    def close(self) -> None:
        """End all workers, which have some seconds to clean up."""
        _end_all(self._processes, os.getpid())

    def _heard(self, seconds: float | None) -> Iterator[Event]:
        """Wait until something happens, or not even that where the system does not tell of it, and yield it."""
        processes = dict(self._processes)
        ends = [end for process in processes.values() for end in process.ends]
        if not all(process.tells_of_its_end for process in processes.values()):
            seconds = _SECONDS_BETWEEN_LOOKS if seconds is None else min(seconds, _SECONDS_BETWEEN_LOOKS)
        ready = set(wait(ends, seconds))
        for worker, process in processes.items():
            if process.connection in ready or process.has_ended:
                yield self._news(worker, process)

    def _news(self, worker: int, process: _Process) -> Event:
        """Return what a process tells, or how it ended, if that is all there is."""
        try:
            if process.connection.poll():
                event: Event = receive(process.connection)
                return event
        except (EOFError, ConnectionError):
            pass
        except OSError:  # no handles left in this process
            raise
        except Exception as error:  # noqa: BLE001  the class of a result or an error that is unknown here
            return Raised(
                worker, WorkError(f"what came from its worker cannot be read: {type(error).__name__}: {error}")
            )
        ended = process.ended_within(_SECONDS_TO_DIE)
        with signals_held():
            del self._processes[worker]
            how = process.killed()
        return Died(worker, how if ended else "its process closed its connection, and did not end")


class _Process:
    """A process that is a worker. To be started and killed while signals are held."""

    def __init__(self, worker: int, own: Mapping[str, str]) -> None:
        self.connection: Connection
        self.connection, there = Pipe()
        words = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # noqa: SLF001
        words += ["-P", "-c", _BOOT, str(worker), json.dumps([place for place in sys.path if isinstance(place, str)])]
        output = subprocess.DEVNULL if sys.__stderr__ is None else 2  # data on stdout are the driver's
        # Until it ignores them: Ctrl-C reaches it as well.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            self._process = subprocess.Popen(  # noqa: S603  this Python
                words, stdin=there.fileno(), stdout=output, stderr=output, env={**os.environ, **own}
            )
        except BaseException:
            self.connection.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            there.close()
        self._sentinel = _descriptor_of(self._process.pid)

    @property
    def ends(self) -> list[Connection | int]:
        """What becomes readable when there is something to hear or the process has ended."""
        return [self.connection] if self._sentinel is None else [self.connection, self._sentinel]

    @property
    def tells_of_its_end(self) -> bool:
        """Whether its end alone wakes one who waits; where others hold its end of the connection, that does not."""
        return self._sentinel is not None

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def give(self, value: Any) -> None:
        """Hand something over. Raises what pickling it raises."""
        with contextlib.suppress(ConnectionError):  # it is dead, which is noticed where results are awaited
            send(self.connection, value)

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def ended_within(self, seconds: float) -> bool:
        """Wait for the process to end, and return whether it did."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def killed(self) -> str:
        """End the process, if it has not ended, and return in words how it did."""
        self._process.kill()
        ended = self.ended_within(_SECONDS_TO_DIE)
        self.connection.close()
        if self._sentinel is not None:
            os.close(self._sentinel)
            self._sentinel = None
        if not ended:
            return "its process does not end, though it was killed"
        loss = Loss(None, self._process.returncode)
        return f"{loss}; most likely for want of memory" if loss.killed else str(loss)


def _descriptor_of(process: int) -> int | None:
    """Return what becomes readable when a process ends; None where the system has no such thing."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


def _end_all(processes: dict[int, _Process], owner: int) -> None:
    if os.getpid() == owner:  # a fork holds a copy of the object, and the processes are not its own
        _end(processes, list(processes))


def _end(processes: dict[int, _Process], workers: Collection[int]) -> None:
    """End processes, all at the same time; whoever interrupts this has them killed at once."""
    try:
        for worker in workers:
            processes[worker].terminate()
        until = time.monotonic() + _SECONDS_TO_LEAVE
        for worker in workers:
            processes[worker].ended_within(until - time.monotonic())
    finally:
        with signals_held():
            for worker in workers:
                processes.pop(worker).killed()

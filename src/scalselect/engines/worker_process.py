"""A process that is a worker: takes what it is to do from its standard input, which is a connection to the driver.

It imports little: what a worker needs comes with what it is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from scalselect.engines.crew import Done, Raised, Ready
from scalselect.engines.helpers import SIGNAL_AT_DEATH_OF_PARENT, picklable
from scalselect.engines.parcels import receive, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scalselect.engines.crew import Event

_log = logging.getLogger(__name__)
_TERMINATED = 128 + signal.SIGTERM


def main(worker: int) -> NoReturn:
    """Be the worker of a number until the driver wants no more of it or is gone, and end the process.

    At SIGTERM the work is left by SystemExit, so that what it holds is cleaned up; Ctrl-C, which reaches all processes
    of a terminal, is the driver's affair. Where the driver is killed, this process is as well (Linux), or ends once its
    task is done (elsewhere).
    """
    asked = _Asked()
    connection = _own_connection()
    try:
        _work_until_closed(connection, worker, asked)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001  an interrupt, or a library's panic: the process is not to be trusted any more
        _log.exception("worker %d was left", worker)
        sys.exit(1)
    sys.exit(_TERMINATED if asked.to_end else 0)


def _work_until_closed(connection: Connection, worker: int, asked: _Asked) -> None:
    work: Any = None
    try:
        work, facts = _begun(connection, worker)
        if work is not None:
            _tell(connection, Ready(worker, facts))
        while True:
            task = receive(connection)
            outcome = _outcome_of(work, worker, task)
            if asked.to_end:  # some libraries ignore exceptions of signal handlers
                return
            _tell(connection, outcome)
            del task, outcome
    except (EOFError, ConnectionError):  # nobody gives tasks or takes results any more
        pass
    finally:
        close = getattr(work, "close", None)
        if close is not None:
            close()


class _Asked:
    """What signals ask of this process.

    Attributes
    ----------
    to_end
        Whether the process was asked to end.
    """

    def __init__(self) -> None:
        self.to_end = False
        self._process = os.getpid()
        if sys.platform == "linux":
            # From here on; where the driver was killed a moment ago, the connection has no other end.
            ctypes.CDLL(None).prctl(SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._leave)
        # The driver held them back, for they would have ended this process while it had no handlers.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that was forked a moment ago
            os._exit(128 + number)
        if not self.to_end:  # a second one does not disturb the cleaning up
            self.to_end = True
            sys.exit(_TERMINATED)


def _own_connection() -> Connection:
    """Return the connection that is the standard input, which is empty from here on; forks do not keep it open."""
    connection: Connection = Connection(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.register_at_fork(after_in_child=connection.close)
    return connection


def _begun(connection: Connection, worker: int) -> tuple[Callable[[Any], Any] | None, Any]:
    """Return the work and its facts; None where there are none, which is told: the driver ends this process then."""
    try:
        begin = receive(connection)
        work, facts = begin(worker)
    except (EOFError, ConnectionError) as error:
        if _is_closed(connection):
            raise
        _tell_failure(connection, worker, error)
    except Exception as error:  # noqa: BLE001  raised again in the driver, or told there
        _tell_failure(connection, worker, error)
    else:
        return work, facts
    return None, None


def _is_closed(connection: Connection) -> bool:
    """Return whether the driver is gone: it sends nothing before it has heard of this worker."""
    return connection.poll(0)


def _outcome_of(work: Callable[[Any], Any], worker: int, task: Any) -> Event:
    try:
        return Done(worker, work(task))
    except Exception as error:  # noqa: BLE001  told to the driver, as it is
        _log.debug("task %s failed", task, exc_info=True)
        return Raised(worker, picklable(error))


def _tell_failure(connection: Connection, worker: int, error: Exception) -> None:
    _log.debug("worker %d could not begin", worker, exc_info=True)
    _tell(connection, Raised(worker, picklable(error)))


def _tell(connection: Connection, event: Event) -> None:
    try:
        send(connection, event)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001  what cannot be pickled: nothing of it was sent
        with contextlib.suppress(ConnectionError):
            send(connection, Raised(event.worker, picklable(error)))

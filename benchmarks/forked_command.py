"""A process forked from this one, which has imported everything: it tells when it enters each phase, and can be killed.

Starting Python and importing torch takes seconds, of which a kill at a random moment would hit little else. Nothing may
have been computed with several threads here before a fork: their locks would stay locked in the forked process.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import scalselect.extending
import scalselect.represent_work  # noqa: F401  imported before any fork
from scalselect.cli import main
from told_phases import Phases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SET_CHILD_SUBREAPER = 36  # of Linux's prctl
_BROKEN = 70  # exit code of a process in which this file or what it was to call went wrong


class Moment(NamedTuple):
    """A phase was entered, so many seconds after the fork."""

    phase: str
    seconds: float


class ForkedCommand:
    """A command line, or a function, in a forked process with a session of its own.

    Parameters
    ----------
    work
        Words of a `scalselect` command, or a function without arguments.
    log
        File that standard output and error go to, appended.
    environment
        Variables set in the forked process.
    halt_at
        Number of the write step, from 0 on, at which it stands still until it is killed: a kill from outside rarely
        falls between system calls that take microseconds.
    """

    def __init__(
        self,
        work: list[str] | Callable[[], object],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        halt_at: int | None = None,
    ) -> None:
        self._pipe, told = os.pipe()
        os.set_blocking(self._pipe, False)
        self._began = time.monotonic()
        self._unread = b""
        self.moments: list[Moment] = []
        self.pid = os.fork()
        if self.pid == 0:  # the code of the parent must not run twice, whatever happens
            try:
                _be_the_child(work, log, environment or {}, Phases(told, halt_at))
            finally:
                os._exit(_BROKEN)
        os.close(told)

    def wait(self) -> int:
        """Wait for the end and return the exit code; negative: the signal that ended it."""
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self._read()
            if done:
                break
            select.select([self._pipe], [], [], 0.005)
            time.sleep(0.001)
        self._read()
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(status)

    def wait_for(self, phase: str, occurrence: int, delay: float) -> bool:
        """Wait until a phase was entered for the n-th time, from 0 on, and `delay` seconds more; False: it ended."""
        while True:
            self._read()
            entered = [moment.seconds for moment in self.moments if moment.phase == phase]
            if len(entered) > occurrence:
                left = self._began + entered[occurrence] + delay - time.monotonic()
                time.sleep(max(0.0, left))
                return True
            if self.ended():
                return False
            select.select([self._pipe], [], [], 0.005)

    def ended(self) -> bool:
        """Tell whether the process has ended; it stays to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, *, whole_tree: bool) -> bool:
        """Kill the process, or its whole session, and take it off the list; False: it had ended by itself."""
        if whole_tree:
            os.killpg(self.pid, signal.SIGKILL)
        else:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def _read(self) -> None:
        while True:
            try:
                content = os.read(self._pipe, 4096)
            except BlockingIOError:
                return
            if not content:
                return
            *lines, self._unread = (self._unread + content).split(b"\n")
            for line in lines:
                phase, at = line.decode().rsplit(" ", 1)
                self.moments.append(Moment(phase, float(at) - self._began))


def in_a_fork(function: Callable[[], object], log: Path) -> None:
    """Call a function in a forked process, so that what it imports, computes and starts stays out of this one."""
    if ForkedCommand(function, log).wait() != 0:
        raise RuntimeError(log.read_text(errors="replace"))


def adopt_orphans() -> None:
    """Make this process the parent of those whose parent was killed, so that it can see and bury them. Linux."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def seconds_until_gone(session: int, patience: float = 10.0) -> float | None:
    """Wait until no process of a session is left; return how long that took, None where some outlived the patience."""
    began = time.monotonic()
    while True:
        try:
            while os.waitpid(-session, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        if not _processes_of(session):
            return time.monotonic() - began
        if time.monotonic() - began > patience:
            os.killpg(session, signal.SIGKILL)
            return None
        time.sleep(0.01)


def _processes_of(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(facts[3]) == session:
            found.append(int(folder.name))
    return found


def _be_the_child(
    work: list[str] | Callable[[], object], log: Path, environment: Mapping[str, str], phases: Phases
) -> None:
    """Do the work and end the process."""
    code = _BROKEN
    try:
        os.setsid()
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os.environ.update(environment)
        tempfile.tempdir = None  # asked for anew: that of the parent is remembered
        if callable(work):
            work()
            code = 0
        else:
            phases.watch()
            code = main(work)
        atexit._run_exitfuncs()  # noqa: SLF001  what the end of a started process would do
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as exited:
        code = exited.code if isinstance(exited.code, int) else _BROKEN
    except BaseException:  # noqa: BLE001  the parent is told by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)

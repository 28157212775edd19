"""Small work for worker processes, which import it; what a task does is said by the task."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.engines.crew import Retaken
from scalselect.engines.held_signals import signals_held
from scalselect.engines.processes import Narrowed, results_in_order

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Beginning:
    """Begins with work that does tasks `(name, *arguments)`; facts are the process number."""

    folder: Path | None = None
    fault: str = ""
    worker: int | None = None  # whose fault it is; None: of all

    def __call__(self, worker):
        if self.fault and self.worker in {None, worker}:
            getattr(Work(self, worker), self.fault)()
        return Work(self, worker), os.getpid()


class OddError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(one + two)


class UnknownElsewhere:
    """Its pickle cannot be read by the driver."""

    def __reduce__(self):
        return _only_in_a_worker, (os.getpid(),)


def _only_in_a_worker(process):
    if os.getpid() != process:
        raise LookupError("of another process")
    return UnknownElsewhere()


class Work:
    def __init__(self, beginning, worker):
        self.folder = beginning.folder
        self.worker = worker

    def __call__(self, task):
        task = task.task if isinstance(task, Retaken) else task
        name, *arguments = task if isinstance(task, tuple) else ("echo", task)
        return getattr(self, name)(*arguments)

    def close(self):
        if self.folder is not None:
            (self.folder / f"closed-{self.worker}").touch()

    def echo(self, value):
        return value

    def environment(self, name):
        return os.environ.get(name)

    def path(self):
        return sys.path

    def main_module(self):
        return sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("_"))

    def in_main_thread(self):
        return threading.current_thread() is threading.main_thread()

    def read(self):
        return sys.stdin.read()

    def shout(self):
        sys.stdout.write("shouted\n")
        sys.stdout.flush()
        os.system("echo shouted")

    def array(self, size):
        return np.arange(size)

    def value_error(self):
        raise ValueError("no such value")

    def connection_error(self):
        raise EOFError("the file ends")

    def odd_error(self):
        raise OddError("odd", "ness")

    def unknown(self):
        return UnknownElsewhere()

    def function(self):
        return lambda: None

    def panic(self):
        raise KeyboardInterrupt

    def leave(self, code=3):
        raise SystemExit(code)

    def kill(self, number=signal.SIGKILL):
        os.kill(os.getpid(), number)
        time.sleep(0.05)

    def kill_once(self, name):
        if not self.mark(name):
            self.kill()
        return name

    def mark(self, name):
        """Return whether this was called before, by any worker."""
        try:
            os.close(os.open(self.folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return True
        return False

    def hold(self, name, seconds=60.0):
        """Hold a file until the work is left."""
        held = self.folder / name
        held.touch()
        try:
            time.sleep(seconds)
        finally:
            held.unlink()

    def deaf(self, name):
        """Hold a file, and heed no signal."""
        with contextlib.suppress(SystemExit):
            self.hold(name)
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    def fork_that_lives_on(self):
        """Leave a process behind that holds whatever was open, under other numbers too, and die."""
        for number in range(3, 30):
            with contextlib.suppress(OSError):
                os.dup(number)
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
        (self.folder / "child").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)

    def squares_by_helpers(self, numbers):
        def lost(*_):
            raise AssertionError

        def narrowed(task, _part):
            return Narrowed([], task, [])

        return list(results_in_order(lambda number: number**2, numbers, 2, narrowed=narrowed, lost=lost))

    def helper_that_hangs(self, name):
        def work(_task):
            (self.folder / name).write_text(str(os.getpid()))
            time.sleep(60)

        return list(results_in_order(work, [0], 1, narrowed=None, lost=None))

    def end_while_held(self):
        """Be asked to end, Ctrl-C first, while processes are started; return what should not be reached."""
        with signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        return "lost"

    def swallow(self):
        """Return though asked to end, as where a library ignores what a signal raised."""
        with contextlib.suppress(SystemExit):
            self.kill(signal.SIGTERM)
        return "swallowed"

    def alarm(self):
        came = []
        signal.signal(signal.SIGALRM, lambda number, _frame: came.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with signals_held():
            time.sleep(0.05)
        return came == [signal.SIGALRM]

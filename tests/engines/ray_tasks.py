"""What workers do in the tests of the Ray engine; importable on its nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalselect.engines.crew import Retaken

if TYPE_CHECKING:
    from pathlib import Path


class NotHereError(Exception):
    """Takes two arguments and keeps one: it can be pickled, and not unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


class NestedError(ValueError):
    """Has an attribute of its own."""

    def __init__(self, message, shard=None):
        super().__init__(message)
        self.shard = shard


@dataclass
class Begins:
    """Writes down which process did which task, in a folder; does strange things at some tasks."""

    folder: Path | None = None
    seconds: float = 0.0
    error: Exception | None = None

    def __call__(self, worker):
        if self.error is not None:
            raise self.error
        return self.do, {"worker": worker, "process": os.getpid()}

    def do(self, task):  # noqa: C901  a list of strange things
        task = task.task if isinstance(task, Retaken) else task
        match task:
            case int():
                if self.folder is not None:
                    (self.folder / f"at-{task}-{os.getpid()}").touch()
                time.sleep(self.seconds)
                if self.folder is not None:
                    (self.folder / f"did-{task}-{os.getpid()}").touch()
                return task * 2
            case "array":
                return np.arange(200_000.0)  # larger than what Ray keeps beside a reference
            case "main thread":
                return threading.current_thread() is threading.main_thread()
            case "alarm":
                return _alarmed()
            case "writing":
                return self.write()
            case "lock":
                return threading.Lock()
            case "exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case Exception():
                raise task
            case "not here":
                raise NotHereError(1, 2)
        raise AssertionError(task)

    def write(self):
        temporary = self.folder / "half"
        temporary.touch()
        try:
            time.sleep(100)
        finally:
            temporary.unlink()


def _alarmed():
    came = []
    before = signal.signal(signal.SIGALRM, lambda *_: came.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with contextlib.suppress(InterruptedError):
        time.sleep(0.3)
    signal.signal(signal.SIGALRM, before)
    return bool(came)


@dataclass
class LacksFile:
    """Says that it does not see a file unless the environment of the node says so."""

    variable: str

    def __call__(self):
        return None if os.environ.get(self.variable) else f"the run folder is not there: {self.variable}"


@dataclass
class Closes:
    """Work that writes down that it was closed."""

    folder: Path

    def __call__(self, _worker):
        return _Closing(self.folder), None


class _Closing:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, task):
        return task

    def close(self):
        (self.folder / f"closed-{os.getpid()}").touch()

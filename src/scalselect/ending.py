"""Signals that end a run: the work is left at once, and where it does not let go, the process ends all the same.

Imported first of all by the command, before anything that takes long; it imports nothing that does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
ENDING = tuple(getattr(signal, name) for name in _WORDS if hasattr(signal, name))  # Windows has no SIGHUP
_SECONDS = 10.0  # that leaving the work and cleaning up may take
_SAME_SECONDS = 1.0  # `timeout` and others send a signal to a process and once more to its group

_pipe_of_parent: tuple[int, int] | None = None


class EndedError(KeyboardInterrupt):
    """The process was asked to end: raised out of whatever it does."""


class Ending:
    """What signals asked of this process.

    Attributes
    ----------
    number
        Of the first signal that came; None as long as none did.
    say
        Returns what to print, given what happened, where the process has to be ended from outside of its work.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.say: Callable[[str], str] = lambda word: f"{word}\n"
        self.over = threading.Event()
        self._came_at = 0.0
        self._process = os.getpid()

    @property
    def code(self) -> int:
        """Exit code by convention: 128 and the number of the signal; that of Ctrl-C where none is known."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def word(self) -> str:
        """What happened, in a word."""
        return _WORDS[signal.Signals(self.number or signal.SIGINT).name]

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Leave the work; at a second signal, sent while it is being left, end the process at once."""
        if os.getpid() != self._process:  # one that was forked a moment ago
            os._exit(128 + number)
        if self.number is None:
            self.number, self._came_at = number, time.monotonic()
            if not self.over.is_set():
                raise EndedError
        elif time.monotonic() - self._came_at > _SAME_SECONDS:
            self.end_now()

    def watch(self, pipe: int) -> None:
        """Wait for the first signal; where the work is not left in time, end the process from here.

        What a handler raises waits until a long call of a library returns, and some libraries lose it.
        """
        numbers = set(map(int, ENDING))
        while (came := os.read(pipe, 1)) and came[0] not in numbers:
            pass
        if came and not self.over.wait(_SECONDS):
            self.number = self.number or came[0]
            self.end_now()
        while os.read(pipe, 64):  # until the other end is closed: Python complains where nobody reads
            pass
        os.close(pipe)

    def end_now(self) -> NoReturn:
        """End the process without cleaning up: what is published is whole, the rest is removed at the next start."""
        with contextlib.suppress(Exception):
            os.write(2, self.say(self.word).encode(errors="backslashreplace"))
        os._exit(self.code)


@contextlib.contextmanager
def signals_end_the_work() -> Iterator[Ending]:
    """Let SIGINT, SIGTERM and SIGHUP raise EndedError in the block, if this is the main thread; no other can.

    A signal that is ignored stays so: `nohup` and a shell's background jobs want it.
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before: dict[int, Any] = {}
    try:
        with _watched(ending):
            for number in ENDING:
                handler = signal.getsignal(number)
                if handler not in {signal.SIG_IGN, None}:  # None: one that Python did not set
                    before[number] = handler
                    signal.signal(number, ending.handle)
            yield ending
            ending.over.set()
    finally:
        ending.over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def quit_at_signals() -> None:
    """Let signals end the process at once: its work is done, or was left, and it is about to exit."""
    for number in ENDING:
        if signal.getsignal(number) not in {signal.SIG_IGN, None}:
            signal.signal(number, lambda came, _frame: os._exit(128 + came))


@contextlib.contextmanager
def _watched(ending: Ending) -> Iterator[None]:
    """Let a thread learn of signals as they come: the system writes their numbers into a pipe."""
    global _pipe_of_parent  # noqa: PLW0603  one for each process
    try:
        reading, writing = os.pipe()
    except OSError:  # no handles left
        yield
        return
    os.set_blocking(writing, False)
    try:
        threading.Thread(target=ending.watch, args=(reading,), daemon=True).start()
    except RuntimeError:  # no memory for one, or no more are allowed: signals are heeded without it
        os.close(reading)
        os.close(writing)
        yield
        return
    outer, _pipe_of_parent = _pipe_of_parent, (reading, writing)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _pipe_of_parent = outer
        os.close(writing)


def _leave_pipe_of_parent() -> None:
    """Let a signal to a forked process be its own affair."""
    global _pipe_of_parent  # noqa: PLW0603
    if _pipe_of_parent is not None:
        signal.set_wakeup_fd(-1)
        for descriptor in _pipe_of_parent:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _pipe_of_parent = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_pipe_of_parent)

"""Signals that end a run, held back while processes are started or ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals that end a run until the block is left.

    What their handlers raise while a process is forked is lost: Python ignores exceptions of the functions that it
    calls before and after a fork. Raised while processes are started or ended, it would leave some of them behind.
    A mask would not do: it holds for one thread, and the system hands a signal to any.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are handled in the main thread alone
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in handlers.items():
        if handler is not None:  # None: one that Python did not set
            signal.signal(number, lambda came_as, _frame: came.append(came_as))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

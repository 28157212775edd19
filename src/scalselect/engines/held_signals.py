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
    # Those that are ignored end nothing, and processes that are started are to ignore them as well. None: a handler
    # that Python did not set.
    handlers = {
        number: handler for number in _ENDING if (handler := signal.getsignal(number)) not in {None, signal.SIG_IGN}
    }
    for number in handlers:
        signal.signal(number, lambda came_as, _frame: came.append(came_as))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

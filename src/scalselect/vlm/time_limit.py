"""A limit of time for a block of Python code, such as a chat template that never ends."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def time_limit(seconds: float, words: str) -> Iterator[None]:
    """Stop the block after some seconds, where that is possible: in a main thread that has no other alarm set.

    Raises
    ------
    ModelError
        With `words`, once the time is up.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise ModelError(words)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

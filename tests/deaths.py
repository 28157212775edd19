"""Commands that die at a chosen write, as by SIGKILL: nothing of what comes after happens, nothing is cleaned up."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalselect import storage
from small_pools import command

NO_PROCESS = 2**22 + 1  # above what Linux gives out


class Death(BaseException):
    """Nothing catches it: the process is gone."""


def dies_at(moment, words):
    """Run a command that dies at the n-th flush, counted from 0; tell whether it died. Otherwise it must succeed.

    Every file is flushed before it gets its name, and its folder after that: two moments a write.
    """
    count, dead = iter(range(10**6)), []

    def dying(_descriptor):  # a process that dies leaves the system's buffers as they are
        if next(count) == moment:
            dead.append(True)
            raise Death

    unlink = Path.unlink
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage.os, "fsync", dying)
        patched.setattr(Path, "unlink", lambda path, **options: None if dead else unlink(path, **options))
        # The temporary files it leaves are those of a dead process.
        patched.setattr(storage.os, "getpid", lambda: NO_PROCESS)
        try:
            assert command(*words) == 0
        except Death:
            return True
        return False


def deaths(words_at, every, first=0):
    """Yield each moment at which a command died, until it lives; `words_at` returns its words for a moment."""
    moment = first
    while dies_at(moment, words_at(moment)):
        yield moment
        moment += every

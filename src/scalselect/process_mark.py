"""Which process a file belongs to, told by a mark in the file's name, and whether that process is dead."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

_MARK = re.compile(r"(.+)-(\d+)-(\d+)-([0-9a-f]{8})")
_AFTER_NAME = {"state": 0, "threads": 17, "started": 19}  # fields of /proc/PID/stat behind the name of the program


class ProcessMark(NamedTuple):
    """A process, and a token of what it made.

    Attributes
    ----------
    place
        Where a process number has a meaning: the host's name, and a hash of its boot and of the container.
    process
        Process number.
    started
        When the process began, in clock ticks since the boot; 0 where the system does not tell. With it, a number
        that was given to another process since is not taken for the one meant.
    token
        Eight random hexadecimal digits.
    """

    place: str
    process: int
    started: int
    token: str

    def __str__(self) -> str:
        return f"{self.place}-{self.process}-{self.started}-{self.token}"

    @property
    def words(self) -> str:
        """The process in words: ``host, process 123``."""
        return f"{self.place.rpartition('.')[0]}, process {self.process}"

    @property
    def is_here(self) -> bool:
        """Whether the process can be asked from here whether it lives: other hosts, boots and containers cannot."""
        return self.place == _place()

    @property
    def is_certain(self) -> bool:
        """Whether a process that is not dead lives: not where its number may have been given to another one since."""
        return self.is_here and self.started != 0

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to be dead; False of any that cannot be asked."""
        if not self.is_here:
            return False
        try:
            if self.process != os.getpid():
                os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # of another user
            pass
        facts = _facts(self.process) if _proc_is_ours() else None
        if facts is None:
            return False
        state, threads, started = facts
        ended = state in "ZX" and threads <= 1  # ended, and its parent has not asked yet how
        return ended or self.started not in {0, started}


def new_mark() -> ProcessMark:
    """Return a mark of this process with a new token."""
    process = os.getpid()
    return ProcessMark(_place(), process, _started(process), secrets.token_hex(4))


def mark_of(text: str) -> ProcessMark | None:
    """Return the mark that a text is; None where it is none."""
    found = _MARK.fullmatch(text)
    return None if found is None else ProcessMark(found[1], int(found[2]), int(found[3]), found[4])


@cache
def _place() -> str:
    """Return the name of this host with a hash of its boot and of this container.

    A host of the same name that was booted at another time may be another machine, so it counts as one.
    """
    parts = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid", "/proc/self/ns/time"):
        try:
            parts.append(Path(path).read_text() if path.endswith("boot_id") else str(Path(path).stat().st_ino))
        except OSError:
            parts.append("")
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"{socket.gethostname().replace('/', '_')}.{digest}"


@cache
def _started(process: int) -> int:
    facts = _facts(process) if _proc_is_ours() else None
    return 0 if facts is None else facts[2]


def _proc_is_ours() -> bool:
    """Tell whether /proc shows processes under the numbers that they have for this one."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115  a number, no path
    except OSError:
        return False


def _facts(process: int) -> tuple[str, int, int] | None:
    """Return state, number of threads and start of a process; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        state = fields[_AFTER_NAME["state"]].decode()
        return state, int(fields[_AFTER_NAME["threads"]]), int(fields[_AFTER_NAME["started"]])
    except (OSError, ValueError, IndexError):
        return None

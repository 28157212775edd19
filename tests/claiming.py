"""Processes that hold claims, for tests of what others may do meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from scalselect.process_mark import ProcessMark, mark_of, new_mark

_HEAD = """
import sys, time
from scalselect import claims, process_mark
from scalselect.remote_path import path_of
claims.BEAT_SECONDS = 0.1
folder = claims.Claims(path_of(sys.argv[1]))
elsewhere = {elsewhere!r}
if elsewhere:
    process_mark._place = lambda: elsewhere
with folder.held({kind!r}) as claim:
    print("held", flush=True)
    sys.stdin.readline()
    {then}
print("released", flush=True)
"""


@contextlib.contextmanager
def holding(folder, kind="scoring", *, elsewhere=None, then="pass"):
    """Yield a process that holds a claim until it is written a line; then it does something more and releases it.

    Parameters
    ----------
    elsewhere
        The place that the process believes to be at.
    """
    code = _HEAD.format(kind=kind, elsewhere=elsewhere, then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def mark_elsewhere():
    """Return the mark of a process of another machine."""
    here = new_mark()
    return ProcessMark("elsewhere.0123456789ab", here.process, here.started, here.token)


def mark_of_dead():
    """Return the mark that a process of this machine had which is dead by now."""
    code = "from scalselect.process_mark import new_mark; print(new_mark())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return mark_of(ended.stdout.strip())

"""Temporary files and folders of this machine (below `TMPDIR`): named after the process, those of dead ones removed.

They go when they are no longer needed, and at the latest when the process ends. What a killed process leaves is removed
by the next one that makes such files here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from scalselect.process_mark import mark_of, new_mark

_HEAD = "scalselect-"

_swept: dict[int, int] = {}  # by process, those forked from it being others: how many were removed


def temporary_prefix() -> str:
    """Return how the name of a temporary file or folder of this process is to begin.

    Asked for the first time, it removes what dead processes of the same user left.
    """
    if os.getpid() not in _swept:
        _swept[os.getpid()] = _remove_those_of_the_dead(Path(tempfile.gettempdir()))
    return f"{_HEAD}{new_mark()}-"


def removed_places() -> int:
    """Return how many of dead processes were removed since this was asked last."""
    number = _swept.get(os.getpid(), 0)
    if number:
        _swept[os.getpid()] = 0
    return number


def _remove_those_of_the_dead(folder: Path) -> int:
    removed = 0
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name.startswith(_HEAD)]
    except OSError:  # whoever wants to write there will say so
        return 0
    for entry in entries:
        mark = mark_of(entry.name.removeprefix(_HEAD).rpartition("-")[0])
        try:
            if mark is None or not mark.is_dead or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
        except OSError:  # another process removes it, or it is not ours to remove
            continue
        removed += 1
    return removed

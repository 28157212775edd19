"""What killed processes leave in folders, and its removal: half-written files, claims, trials of writing."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.claim_files import beats_by_claim
from scalselect.claims import Claims
from scalselect.process_mark import ProcessMark, mark_of
from scalselect.remote_path import as_remote
from scalselect.run_folder_place import CLAIMS, remove_dead_trials
from scalselect.storage import TEMPORARY_MARK, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HOURS = 6.0  # since the last write, of a process that cannot be asked whether it lives


def remove_leftovers(folder: Path) -> int:
    """Delete what dead processes left in a run folder; return how many files that were.

    Processes of other hosts, and in other containers of this one, cannot be asked whether they live: on a disk what
    they have not written to for six hours, by the clock of the file system, counts as left. In an object store there
    are no half-written files: what was not sent to its end does not show.

    Raises
    ------
    OSError
        The folder cannot be written, or see `scalselect.remote_files.told_as_os_errors`.
    """
    remote = as_remote(folder)
    if remote is not None:
        return Claims(folder / CLAIMS).remove_dead() + remove_dead_trials(remote)
    claims = (folder / CLAIMS / name for name in beats_by_claim(folder / CLAIMS))
    marks = {path: mark_of(path.name.rpartition("@")[2]) for path in claims}
    removed = _remove({**_written_by(_half_written(folder)), **marks})
    with contextlib.suppress(OSError):  # not there, or in use
        (folder / CLAIMS).rmdir()
    return removed


def remove_leftovers_beside(path: Path) -> int:
    """Delete what dead processes left that were writing this file or folder; return how many there were.

    See `remove_leftovers`. Does nothing in an object store, or where the folder of the file is not there.
    """
    if as_remote(path) is not None or not path.parent.is_dir():
        return 0
    head = f".{path.name}{TEMPORARY_MARK}"
    return _remove(_written_by(entry for entry in path.parent.iterdir() if entry.name.startswith(head)))


def _half_written(folder: Path) -> Iterator[Path]:
    """Yield half-written files and folders below a folder, whatever others remove meanwhile."""
    # Not `rglob`, which fails where a folder has just gone.
    for place, folders, files in os.walk(folder, onerror=_raise_unless_gone):
        for name in (*folders, *files):
            if name.startswith(".") and TEMPORARY_MARK in name:
                yield Path(place, name)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _written_by(paths: Iterable[Path]) -> dict[Path, ProcessMark | None]:
    return {path: mark_of(path.name.rpartition(TEMPORARY_MARK)[2]) for path in paths}


def _remove(marks: dict[Path, ProcessMark | None]) -> int:
    removed = 0
    now: float | None = None
    for path, mark in marks.items():
        if mark is None:
            continue
        if not mark.is_here and now is None:
            try:
                now = _now_at(path.parent)
            except FileNotFoundError:  # the folder of claims has gone, and with it the claim
                continue
        if mark.is_dead or (now is not None and not mark.is_here and now - _written_at(path, now) > _HOURS * 3600):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed += 1
    return removed


def _now_at(folder: Path) -> float:
    """Return what the clock of a folder's file system shows: on a network disk it is that of the server."""
    probe = temporary_beside(folder / "clock")
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _written_at(path: Path, now: float) -> float:
    """Return when a file, or the newest file of a folder, was last written to; now where it has gone meanwhile."""
    try:
        return max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))
    except OSError:
        return now

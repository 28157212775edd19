"""What a run folder asks of the place where it lies: that it can be one, and that only those use it who may."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from scalselect.claims import Claim, Claims
from scalselect.errors import RunFolderError
from scalselect.process_mark import mark_of, new_mark
from scalselect.remote_files import WRITABLE
from scalselect.remote_path import as_remote, path_of
from scalselect.storage import TEMPORARY_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scalselect.remote_path import RemotePath

CLAIMS = ".claims"  # folder of those that use the run folder
LOGS = "logs"  # folder of what workers tell
TRIAL = ".trial-"  # of writing, in an object store; followed by a mark of the process

_alone: set[tuple[int, str]] = set()  # process and folder


def check_place(path: Path) -> None:
    """Raise RunFolderError where a location cannot become, or is not, a run folder. Leaves nothing written."""
    remote = as_remote(path)
    if remote is not None:
        _check_remote(remote)
        return
    if "\0" in str(path):
        raise RunFolderError(f"output is no possible name of a folder: {str(path)!r}")
    if (path / "run.json").exists():
        if not os.access(path, os.W_OK):
            raise RunFolderError(f"run folder cannot be written: {path} ({_why_not_written(path)})")
        return
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"output is a file, a folder is wanted: {path}")
    if path.is_dir() and not all(_is_passing(entry.name) for entry in path.iterdir()):
        raise RunFolderError(f"output folder holds files but no run.json: {path}; {way_on(path)}")
    parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not parent.is_dir():
        raise RunFolderError(f"output folder cannot be created: {path} ({parent} is a file)")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunFolderError(f"output folder cannot be created: {path} ({parent} is not writable)")


def _why_not_written(path: Path) -> str:
    if hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY:
        return "read-only file system; mount it for writing, or copy the folder elsewhere"
    return "permission denied; change its permissions, or copy the folder elsewhere"


def way_on(path: Path) -> str:
    """Return what to do where there is no run.json."""
    if (path / "representations").is_dir():
        return "there are vectors, but nothing says of what: restore run.json, or begin again in another folder"
    return "give that of a run, or a new or empty folder to `scalselect run`, which makes one"


@contextlib.contextmanager
def alone_where_needed(path: Path, claims: Claims) -> Iterator[None]:
    """Keep other processes out of a run folder in an object store that cannot make sure that a file is new.

    Everywhere else processes share a run folder, and nothing is done. Blocks of one process may lie in one another.

    Raises
    ------
    RunFolderError
        A process that lives is using the folder.
    OSError
        See `scalselect.remote_files.told_as_os_errors`.
    """
    remote = as_remote(path)
    key = (os.getpid(), str(path))
    if remote is None or key in _alone or _trial_in(remote).knows_exclusive_creation():
        yield
        return
    claim = claims.take_or_refuse("run")
    if not isinstance(claim, Claim):
        raise RunFolderError(
            f"run folder is in use by {claim.words}: {path}; this object store does not know exclusive creation "
            "(conditional writes, If-None-Match), so only one process at a time may work there: repeat the command "
            "when that one has ended"
        )
    _alone.add(key)
    try:
        with claim:
            yield
    finally:
        _alone.discard(key)


def remove_dead_trials(folder: RemotePath) -> int:
    """Remove trials of writing that dead processes left; return how many that were."""
    removed = 0
    for name in folder.versions():
        mark = mark_of(name.removeprefix(TRIAL)) if name.startswith(TRIAL) else None
        if mark is not None and mark.is_dead:
            (folder / name).unlink(missing_ok=True)
            removed += 1
    return removed


def _check_remote(folder: RemotePath) -> None:
    if folder.protocol not in WRITABLE:
        known = " and ".join(f"{name}://" for name in WRITABLE)
        raise RunFolderError(f"run folder cannot lie there: {folder} (wanted: a local folder, or one in {known})")
    try:
        if not (folder / "run.json").exists():
            if folder.is_file():
                raise RunFolderError(f"output is a file, a folder is wanted: {folder}")
            if folder.is_dir() and not all(_is_passing(entry.name) for entry in folder.iterdir()):
                raise RunFolderError(
                    f"output folder holds files but no run.json: {folder}; {way_on(path_of(str(folder)))}"
                )
        trial = _trial_in(folder)
        trial.upload(b"")  # whether it may be written is known by writing alone
        trial.unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"run folder cannot be used: {folder} ({error.strerror})") from error


def _trial_in(folder: RemotePath) -> RemotePath:
    return folder / f"{TRIAL}{new_mark()}"


def _is_passing(name: str) -> bool:
    """Tell whether a name is that of something that processes leave which are killed before there is a run."""
    return TEMPORARY_MARK in name or name in {CLAIMS, LOGS} or name.startswith(TRIAL)

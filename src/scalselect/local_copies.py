"""Local copies of remote files, for what can only be read from a disk: mapped arrays, indexed records.

They lie in one temporary folder of the process (below `TMPDIR`), which is removed at its exit. A process that was
forked from it may read them, and removes nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scalselect.errors import DataChangedError
from scalselect.remote_files import filesystem, key_of, remote_facts, told_as_os_errors, version_of
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Copy(NamedTuple):
    version: tuple[str, ...]
    path: Path


_folders: dict[int, Path] = {}  # of a process
_kept: dict[str, _Copy] = {}  # by location


def local_copy(location: str) -> Path:
    """Return a local file with the content of a remote one, under the same name. Kept until the process ends.

    Asked for again, it is copied again only where the remote file has changed; the older copy is then removed. On
    Linux whoever holds that one open or mapped can go on reading it.

    Raises
    ------
    OptionError
        See `scalselect.remote_files.filesystem`.
    DataChangedError
        The remote file was written to while it was copied.
    OSError
        See `scalselect.remote_files.told_as_os_errors`; or the disk is full.
    """
    version = _version(location)
    before = _kept.get(location)
    if before is not None and before.version == version and before.path.exists():
        return before.path
    path = _copied(location, version)
    if before is not None:
        shutil.rmtree(before.path.parent, ignore_errors=True)
    _kept[location] = _Copy(version, path)
    return path


@contextlib.contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Yield a local path itself, and of a `RemotePath` a copy that is removed at the end of the block."""
    if as_remote(path) is None:
        yield path
        return
    copy = _copied(str(path), _version(str(path)))
    try:
        yield copy
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


@contextlib.contextmanager
def staged_file() -> Iterator[Path]:
    """Yield a place for a local file that is made only to be sent away; it is removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    try:
        yield folder / "file"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _version(location: str) -> tuple[str, ...]:
    facts = remote_facts(location)
    if facts["type"] != "file":
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is wanted", location)
    return version_of(facts)


def _copied(location: str, version: tuple[str, ...]) -> Path:
    path = Path(tempfile.mkdtemp(dir=_folder())) / key_of(location).rpartition("/")[2]
    try:
        with told_as_os_errors(location):
            filesystem(location).get_file(key_of(location), str(path))
        _check_unchanged(location, version)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    return path


def _check_unchanged(location: str, version: tuple[str, ...]) -> None:
    if _version(location) != version:
        raise DataChangedError(f"file was written to while it was copied: {location}; repeat the command")


def _folder() -> Path:
    """Return the temporary folder of this process."""
    process = os.getpid()
    if process not in _folders:
        _folders[process] = Path(tempfile.mkdtemp(prefix="scalselect-"))
        atexit.register(_remove, process)
    return _folders[process]


def _remove(process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(_folders[process], ignore_errors=True)

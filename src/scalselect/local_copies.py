"""Local copies of remote files, for what can only be read from a disk: mapped arrays, indexed records.

They lie in one temporary folder of the process (below `TMPDIR`), which is removed at its exit, or if it is killed by a
later process (`scalselect.temporary_places`). A process that was forked from it may read them, and removes nothing.
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
from scalselect.failures import naming_failures
from scalselect.remote_files import filesystem, key_of, remote_facts, told_as_os_errors, version_of
from scalselect.remote_path import as_remote
from scalselect.temporary_places import temporary_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Copies(NamedTuple):
    versions: list[tuple[str, ...]]
    root: Path
    paths: list[Path]


_folders: dict[int, Path] = {}  # of a process
_kept: dict[tuple[str, ...], _Copies] = {}  # by locations


def local_copy(location: str) -> Path:
    """Return a local file with the content of a remote one, under the same name; see `local_copies`."""
    return local_copies([location])[0]


def local_copies(locations: Sequence[str]) -> list[Path]:
    """Return local files with the content of remote ones, lying to one another as those do. Kept until exit.

    Asked for again, they are copied again only where one of the remote files has changed; the older copies are then
    removed. On Linux whoever holds those open or mapped can go on reading them.

    Raises
    ------
    OptionError
        See `scalselect.remote_files.filesystem`.
    DataChangedError
        A remote file was written to while it was copied.
    OSError
        See `scalselect.remote_files.told_as_os_errors`; or the disk is full.
    """
    versions = [_version(location) for location in locations]
    before = _kept.get(tuple(locations))
    if before is not None and before.versions == versions and all(path.exists() for path in before.paths):
        return before.paths
    copies = _copied(locations, versions)
    if before is not None:
        shutil.rmtree(before.root, ignore_errors=True)
    _kept[tuple(locations)] = copies
    return copies.paths


@contextlib.contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Yield a local path itself, and of a `RemotePath` a copy that is removed at the end of the block."""
    if as_remote(path) is None:
        yield path
        return
    copies = _copied([str(path)], [_version(str(path))])
    try:
        yield copies.paths[0]
    finally:
        shutil.rmtree(copies.root, ignore_errors=True)


@contextlib.contextmanager
def staged_file() -> Iterator[Path]:
    """Yield a place for a local file that is made only to be sent away; it is removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    try:
        yield folder / "file"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_local_copies() -> None:
    """Remove what this process has copied, where it may be killed before its exit; what is asked for is copied anew."""
    _kept.clear()
    _remove(os.getpid())


def _version(location: str) -> tuple[str, ...]:
    facts = remote_facts(location)
    if facts["type"] != "file":
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is wanted", location)
    return version_of(facts)


def _copied(locations: Sequence[str], versions: list[tuple[str, ...]]) -> _Copies:
    keys = [key_of(location) for location in locations]
    above = os.path.commonpath([key.rpartition("/")[0] for key in keys])
    root = Path(tempfile.mkdtemp(dir=_folder()))
    try:
        paths = [root / os.path.relpath(key, above) for key in keys]
        for location, key, path, version in zip(locations, keys, paths, versions, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with told_as_os_errors(location), naming_failures(path):
                filesystem(location).get_file(key, str(path))
            _check_unchanged(location, version)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return _Copies(versions, root, paths)


def _check_unchanged(location: str, version: tuple[str, ...]) -> None:
    if _version(location) != version:
        raise DataChangedError(f"file was written to while it was copied: {location}; repeat the command")


def _folder() -> Path:
    """Return the temporary folder of this process."""
    process = os.getpid()
    if process not in _folders:
        _folders[process] = Path(tempfile.mkdtemp(prefix=temporary_prefix()))
        atexit.register(_remove, process)
    return _folders[process]


def _remove(process: int) -> None:
    if process == os.getpid() and process in _folders:
        shutil.rmtree(_folders.pop(process), ignore_errors=True)

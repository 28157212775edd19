"""Bytes in files: atomic publishing, exclusive creation, hashes. Knows nothing of what the bytes mean.

A file under its final name is always whole: it is written under a temporary name in the same folder, flushed to
the disk, and renamed. Whoever dies before the rename leaves only a temporary file. In an object store, where a file
appears at once when the last of it has arrived, it is written under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from typing import IO, TYPE_CHECKING

from scalselect.failures import naming_failures
from scalselect.local_copies import staged_file
from scalselect.process_mark import new_mark
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from pathlib import Path


TEMPORARY_MARK = ".part-"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


@contextlib.contextmanager
def publish_stream(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that appears as `path`, whole, when the block ends without an exception.

    It can be read and sought in. For an object store it is a local one until the block ends.

    Raises
    ------
    OSError
        As the file system raises it; `path` is then untouched.
    """
    remote = as_remote(path)
    if remote is not None:
        with staged_file() as staged:
            with staged.open("xb") as stream:
                yield stream
            remote.upload_file(staged)
        return
    temporary = temporary_beside(path)
    try:
        with naming_failures(path, TEMPORARY_MARK), temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def publish_bytes(path: Path, content: bytes) -> None:
    """Write `content` as `path`, atomically, replacing what was there."""
    remote = as_remote(path)
    if remote is not None:
        remote.upload(content)
        return
    with publish_stream(path) as stream:
        stream.write(content)


def create_exclusive(path: Path, content: bytes) -> bool:
    """Write `content` as `path` unless it exists; return whether this call created it. Never shows a partial file.

    An object store that does not know conditional writes lets the last of several writers win.
    """
    remote = as_remote(path)
    if remote is not None:
        try:
            remote.create(content)
        except FileExistsError:
            return False
        return True
    temporary = temporary_beside(path)
    try:
        with naming_failures(path, TEMPORARY_MARK), temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _link(temporary, path, content)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)
    return True


def sha256_of_bytes(content: bytes | memoryview | mmap.mmap) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, reading it in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, as far as it is there and can be deleted."""
    remote = as_remote(folder)
    if remote is not None:
        remote.remove_tree()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _link(temporary: Path, path: Path, content: bytes) -> None:
    """Give a finished file its name unless that is taken. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Mounted object stores have no hard links; there a whole small file appears at once when it is closed.
        with path.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())


def temporary_beside(path: Path) -> Path:
    """Return the place beside `path` where this process may write what is to be renamed to it."""
    return path.with_name(f".{path.name}{TEMPORARY_MARK}{new_mark()}")


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

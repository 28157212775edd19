"""Bytes in files: atomic publishing, exclusive creation, hashes. Knows nothing of what the bytes mean.

A file under its final name is always whole: it is written under a temporary name in the same folder, flushed to
the disk, and renamed. Whoever dies before the rename leaves only a temporary file. In an object store, where a file
appears at once when the last of it has arrived, it is written under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
from typing import IO, TYPE_CHECKING

from scalselect.failures import NO_SPACE
from scalselect.local_copies import staged_file
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator
    from pathlib import Path


TEMPORARY_MARK = ".part-"
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
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
    temporary = _temporary_beside(path)
    try:
        with _failures_name(path), temporary.open("xb") as stream:
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
    temporary = _temporary_beside(path)
    try:
        with _failures_name(path), temporary.open("xb") as stream:
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


def remove_temporary_files(folder: Path) -> int:
    """Delete what writers that are dead by now left below `folder`; return how many files that were.

    Writers on other hosts, or in other containers of this one, cannot be asked whether they live, so their files are
    left alone. In an object store there are none: what was not sent to its end does not show.
    """
    if as_remote(folder) is not None:
        return 0
    removed = 0
    for path in folder.rglob(f".*{TEMPORARY_MARK}*"):
        host, _, process = path.name.rpartition(TEMPORARY_MARK)[2].rpartition("-")[0].rpartition("-")
        if host == _place() and process.isdecimal() and not _is_alive(int(process)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


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


@contextlib.contextmanager
def _failures_name(path: Path) -> Iterator[None]:
    """Let failures of writing name the file that was to be: those of the system name none, or the temporary one."""
    try:
        yield
    except OSError as error:
        written = error.filename is None and error.errno in NO_SPACE
        if written or TEMPORARY_MARK in str(error.filename):
            error.filename = str(path)
        raise


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def claimed(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the claim of which `path` is the file while the block runs; one process at a time does.

    The system takes the claim back when its holder dies, however that happens. Where the file system knows no locks
    (object stores, mounted or not) nobody is kept out. The file is removed at the end.

    Parameters
    ----------
    on_wait
        Called once, with the holder as `host, process 123`, before waiting for somebody else.
    """
    if as_remote(path) is not None:
        yield
        return
    while True:
        with path.open("a+b") as file:
            _lock(file, on_wait)
            if not _is_at(file, path):  # its holder has just removed it: somebody may hold another one
                continue
            file.truncate(0)
            file.write(f"{socket.gethostname()}, process {os.getpid()}".encode())
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(file: IO[bytes], on_wait: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        on_wait(file.read().decode(errors="replace"))
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _place() -> str:
    """Return where a process number has a meaning: this host, and inside it this container."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  a link to no path
    except OSError:
        namespace = 0
    return f"{socket.gethostname()}.{namespace}"


def _temporary_beside(path: Path) -> Path:
    writer = f"{_place()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}{TEMPORARY_MARK}{writer}")


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

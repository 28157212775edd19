"""Disks that are full, for tests: a small file system of its own, and the system's limit of the size of files."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess

import pytest

PAGE = 4096
_RELEASED = 1 << 30


class SmallDisk:
    """A file system in memory whose free space is what the test leaves of it."""

    words = ("no space left on device", "bytes are free in")

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def free(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, size):
        """Fill the disk but for `size` bytes, rounded down to pages."""
        with self._filler.open("ab") as filler:
            here = filler.seek(0, os.SEEK_END)
            filler.truncate(here - min(here, PAGE * -(-max(0, size - self.free) // PAGE)))
            more = (self.free - size) // PAGE * PAGE
            if more > 0:
                os.posix_fallocate(filler.fileno(), filler.tell(), more)

    def widen(self, size):
        self.leave(self.free + size)

    @contextlib.contextmanager
    def at_work(self):
        yield

    def release(self):
        self._filler.unlink(missing_ok=True)


class SmallFiles:
    """A folder in which no file may grow beyond what the test allows. It needs no rights."""

    words = ("file too large", "a file of this process may have")

    def __init__(self, folder):
        self.folder = folder
        self._limit = _RELEASED

    def leave(self, size):
        self._limit = size

    def widen(self, size):
        self._limit += size

    @contextlib.contextmanager
    def at_work(self):
        """Hold the limit while the command runs; the tests themselves have none."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._limit, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def release(self):
        self._limit = _RELEASED


@contextlib.contextmanager
def mounted(folder, options="size=4m"):
    """Yield a folder with a file system of its own, mounted as root; elsewhere the test is skipped."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        without_rights(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def without_rights(why):
    """Skip a test that needs to be root; in continuous integration it must not be skipped.

    A container in which not even root may mount is no failure: the limit of the size of files is tested there.
    """
    if os.environ.get("CI") == "true" and os.geteuid() != 0:
        pytest.fail(f"{why}; run the tests as root")
    pytest.skip(why)


@contextlib.contextmanager
def full_disk(kind, folder):
    """Yield a `SmallDisk` (kind `disk`) or `SmallFiles` (kind `files`) in a new folder."""
    if kind == "files":
        folder.mkdir()
        yield SmallFiles(folder)
    else:
        with mounted(folder):
            yield SmallDisk(folder)

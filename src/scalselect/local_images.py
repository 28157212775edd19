"""The bytes of an image file on this machine: what may be read there, and what never is.

A record may name anything. Followed are paths and links to regular files; a device, a pipe, a socket and whatever a
path reaches by way of the kernel's own file systems are refused before they are opened, and what was opened is looked
at again, so that a file exchanged in between gains nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from scalselect.errors import OptionError, SampleError
from scalselect.records import Reason

MAX_BYTES = 1 << 30  # of one image file: what has more is no picture that any trainer reads

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_MOST_LINKS = 40  # as Linux has it
_PIECE = 1 << 24
# "Regular" files there may block, never end, act when they are read, or lead into other processes.
_KERNEL_FOLDERS = ("/proc", "/sys")
_KERNEL_SYSTEMS = {"proc", "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "cgroup", "cgroup2", "devpts"}
_KERNEL_SYSTEMS |= {"mqueue", "bpf", "pstore", "efivarfs", "binfmt_misc", "fusectl", "nsfs", "selinuxfs", "rpc_pipefs"}
# Waits for no pipe, becomes nobody's terminal, follows no link: the path was followed by hand.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY


def read_local_image(path: str, within: str | None = None) -> bytes:
    """Return the bytes of an image file.

    Parameters
    ----------
    path
        Absolute, or relative to the working directory.
    within
        Folder in which the file must lie once every link is followed; None: anywhere.

    Raises
    ------
    SampleError
        `image_outside`; `image_missing`; `image_unreadable`: no regular file, one of the kernel's, or permission is
        denied; `image_too_large`: more than `MAX_BYTES`.
    OSError
        Failures that say nothing of the sample.
    OptionError
        The process was started in a locale in which the path cannot be said to the system.
    """
    try:
        place = _checked_place(path, within)
        descriptor = os.open(place, _FLAGS)
        try:
            return _content(descriptor, place, within)
        finally:
            os.close(descriptor)
    except OSError as error:
        _refuse(error)
    except ValueError as error:  # a NUL byte, or a character that no file name has
        _refuse_locale(path, error)
        raise SampleError(Reason.IMAGE_MISSING, str(error)) from None


def local_image_exists(path: str, within: str | None = None) -> bool:
    """Tell whether there is a file that `read_local_image` would open. Raises SampleError where one is refused."""
    try:
        _checked_place(path, within)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _MISSING:
            _refuse(error)
        if isinstance(error, ValueError):
            _refuse_locale(path, error)
        return False
    return True


def lies_within(place: str, folder: str) -> bool:
    """Tell whether a resolved path is in a folder, or the folder itself; locations of a store are compared alike."""
    return place == folder or place.startswith(folder.rstrip("/") + "/")


def _checked_place(path: str, within: str | None) -> str:
    """Return where a path leads if it may be opened. Raises SampleError, OSError, ValueError; opens nothing."""
    place, facts, fault = _followed(path)
    _refuse_outside(place, within)
    if fault is not None:
        raise fault
    _refuse_irregular(facts)
    return place


def _followed(path: str) -> tuple[str, os.stat_result, OSError | None]:
    """Follow a path name by name, as the kernel does, but never into one of the kernel's own folders.

    Returns
    -------
    tuple
        Where it leads, what lies there, and what hindered: then the place is the one that the rest of the names mean.
    """
    names = (path if path.startswith("/") else f"{Path.cwd()}/{path}").split("/")[::-1]
    here, facts, links = "/", os.lstat("/"), 0
    while names:
        name = names.pop()
        try:
            _demand_folder(facts)
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120  texts, many a second
                facts = os.lstat(here)
            if name in ("", ".", ".."):
                continue
            step = f"{here.rstrip('/')}/{name}"
            found = os.lstat(step)
            _refuse_kernel(step, found)
            if not stat.S_ISLNK(found.st_mode):
                here, facts = step, found
                continue
            links += 1
            _demand_no_circle(links)
            target = os.readlink(step)  # noqa: PTH115  a Path would drop `./` and `//`
        except OSError as error:
            rest = "/".join([here, name, *names[::-1]])
            return os.path.normpath(rest), facts, error
        if target.startswith("/"):
            here, facts = "/", os.lstat("/")
        names += target.split("/")[::-1]
    return here, facts, None


def _demand_folder(facts: os.stat_result) -> None:
    if not stat.S_ISDIR(facts.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _demand_no_circle(links: int) -> None:
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _content(descriptor: int, place: str, within: str | None) -> bytes:
    """Return what an open file holds, once it is sure that this is the file that was looked at."""
    facts = os.fstat(descriptor)
    _refuse_irregular(facts)
    _refuse_kernel(place, facts)
    if within is not None:
        _refuse_outside(_place_of(descriptor, place), within)
    pieces, size = [], 0
    if facts.st_size <= MAX_BYTES:
        while piece := os.read(descriptor, min(_PIECE, MAX_BYTES + 1 - size)):
            pieces.append(piece)
            size += len(piece)
    if max(size, facts.st_size) > MAX_BYTES:
        raise SampleError(Reason.IMAGE_TOO_LARGE, f"a file of more than {MAX_BYTES:,} bytes")
    return b"".join(pieces)


def _place_of(descriptor: int, place: str) -> str:
    """Return where an open file lies: a folder on the way may have become a link since it was looked at."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:  # no Linux
        return os.path.realpath(place)


def _refuse_outside(place: str, within: str | None) -> None:
    if within is not None and not lies_within(place, os.path.realpath(within)):
        refuse_outside()


def refuse_outside() -> NoReturn:
    """Raise the SampleError `image_outside`, which says nothing of what lies there."""
    raise SampleError(
        Reason.IMAGE_OUTSIDE, "outside the image folder, and images are confined to it (--no-confine-images)"
    )


def _refuse_irregular(facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        what = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        raise SampleError(Reason.IMAGE_UNREADABLE, what)


def _refuse_kernel(place: str, facts: os.stat_result) -> None:
    if place in _KERNEL_FOLDERS or _is_of_the_kernel(facts.st_dev):
        raise SampleError(Reason.IMAGE_UNREADABLE, "a file of the kernel")


@lru_cache(maxsize=256)
def _is_of_the_kernel(device: int) -> bool:
    """Tell whether a device number is that of a file system in which the kernel shows itself, mounted anywhere."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux
        return False
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        if before.split()[2] == wanted:
            return behind.split()[0] in _KERNEL_SYSTEMS
    return False


def _refuse_locale(path: str, error: ValueError) -> None:
    """Raise OptionError for a name that only this process's locale is too narrow for: no row may depend on that."""
    if not isinstance(error, UnicodeEncodeError):
        return
    try:
        path.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no file name has anywhere
        return
    raise OptionError(
        f"an image's name cannot be said to the system, which this process talks to in {error.encoding}: {path}; "
        "set PYTHONUTF8=1, or a locale such as C.UTF-8"
    ) from None


def _refuse(error: OSError) -> NoReturn:
    if error.errno in _MISSING:
        raise SampleError(Reason.IMAGE_MISSING, str(error.strerror)) from None
    if error.errno in (errno.EACCES, errno.ENXIO):  # the second: it became a pipe or a socket meanwhile
        raise SampleError(Reason.IMAGE_UNREADABLE, str(error.strerror)) from None
    raise error

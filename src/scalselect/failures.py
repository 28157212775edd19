"""Failures of the machine, told apart from faults of the data: a full disk, no handles or memory left, a broken disk.

They come from the system as `OSError` and `MemoryError`, and from libraries in families of their own. They say nothing
about a sample or a file, so that nothing may be skipped, thrown away or called damaged because of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SAMPLE_MEMORY_ADVICE = (
    "give --image-max-pixels or --max-length to make samples smaller, --dtype bfloat16, fewer --dataloader-workers, or "
    "--skip-oom to skip such samples"
)
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_HANDLES = {errno.EMFILE, errno.ENFILE}
_OF_THE_DISK = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV}
_READ_ONLY = {errno.EROFS}
_OF_THE_MACHINE = {*NO_SPACE, *NO_HANDLES, *_OF_THE_DISK, *_READ_ONLY, errno.ENOMEM}
# How the libraries of these modules, and the loader of compiled code, write the number of a system's error.
_NUMBERED = re.compile(r"\((?:os error|code:?) (\d+)|\[[Ee]rrno (\d+)\]")
_FAMILIES = ("safetensors", "safetensors_rust", "pyarrow")
_LOADER_WITHOUT_MEMORY = ("cannot allocate memory", "failed to map segment")
# Torch's words begin and end so; what lies between may be anybody's.
_OF_TORCH = re.compile(r"unable to (?:open|mmap|map|resize|write)\b.*\((\d+)\)\s*$", re.DOTALL)
_NO_THREADS = {errno.EAGAIN}
_WORDS_OF_RUNTIME = {
    "can't start new thread": errno.EAGAIN,
    "DefaultCPUAllocator": errno.ENOMEM,
    "std::bad_alloc": errno.ENOMEM,
    "could not create a primitive": errno.ENOMEM,  # of oneDNN, for a model that ran before
    "ancdata": errno.EMFILE,
}
_UNLIMITED = 1 << 62


def machine_failure(error: BaseException) -> OSError | MemoryError | None:
    """Return the failure of the machine that an exception is, or was raised because of; None where there is none.

    Parameters
    ----------
    error
        Looked at with all exceptions that it followed.

    Returns
    -------
    The exception of the system itself; one made from the words of a library where that raised its own.
    """
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        here = ahead.pop()
        if here is None or id(here) in seen:
            continue
        seen.add(id(here))
        failure = _as_failure(here)
        if failure is not None:
            return failure
        ahead += [here.__context__, here.__cause__]
    return None


@contextlib.contextmanager
def naming_failures(path: Path, temporary: str | None = None) -> Iterator[None]:
    """Let failures of writing name the file that was to be: those of the system name none where it was open already.

    Parameters
    ----------
    temporary
        What the name of a file holds that is written in place of `path`.
    """
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in NO_SPACE
        if nameless or (temporary is not None and temporary in str(error.filename)):
            error.filename = str(path)
        raise


def told_of(failure: OSError | MemoryError) -> str:
    """Return in words what failed and where."""
    if isinstance(failure, MemoryError) or failure.errno == errno.ENOMEM:
        return f"memory ran out{_detail(failure)}"
    file = f": {_text(failure.filename)}" if failure.filename else ""
    words = failure.strerror or str(failure) or type(failure).__name__
    if failure.errno in _OF_THE_MACHINE:
        words = words[:1].lower() + words[1:]
    return f"{words}{file}{_room(failure) if failure.errno in NO_SPACE else ''}"


def advice_for(failure: OSError | MemoryError) -> str | None:
    """Return in words what would help; None where only the user can know."""
    if isinstance(failure, MemoryError) or failure.errno == errno.ENOMEM:
        return _more_memory()
    if failure.errno in NO_SPACE:
        return "raise the limit or write elsewhere" if failure.errno == errno.EFBIG else "make room there"
    if failure.errno in NO_HANDLES:
        return _more_handles()
    if failure.errno in _NO_THREADS:
        return "let this process have more memory (`ulimit -v`) or start more threads (`ulimit -u`)"
    return "mount it for writing, or write elsewhere" if failure.errno in _READ_ONLY else None


def is_lasting(failure: OSError | MemoryError) -> bool:
    """Tell whether the machine refuses what was asked, rather than lacking at the moment what it needs."""
    return isinstance(failure, OSError) and failure.errno in {*_OF_THE_DISK, *_READ_ONLY}


def _as_failure(error: BaseException) -> OSError | MemoryError | None:
    if isinstance(error, MemoryError):
        return error
    if isinstance(error, OSError):
        if error.errno in _OF_THE_MACHINE:
            return error
        number = _number_in(error) if error.errno is None else None  # Arrow's and safetensors' own
    elif isinstance(error, ImportError):  # of compiled code that could not be opened or mapped
        number = _number_of_loader(str(error))
    elif type(error).__module__.partition(".")[0] in _FAMILIES:
        number = _number_in(error)
    elif isinstance(error, RuntimeError):
        number = _number_of_torch(str(error))
    else:
        return None
    if number in _NO_THREADS:
        return OSError(number, "no further thread can be started")
    if number not in _OF_THE_MACHINE:
        return None
    return MemoryError(str(error)) if number == errno.ENOMEM else OSError(number, os.strerror(number))


def _number_in(error: BaseException) -> int | None:
    found = _NUMBERED.search(str(error))
    return None if found is None else int(found[1] or found[2])


def _number_of_torch(message: str) -> int | None:
    found = _OF_TORCH.match(message)
    if found is not None:
        return int(found[1])
    return next((number for words, number in _WORDS_OF_RUNTIME.items() if words in message[:200]), None)


def _number_of_loader(message: str) -> int | None:
    if any(words in message for words in _LOADER_WITHOUT_MEMORY):
        return errno.ENOMEM
    return next((number for number in _OF_THE_MACHINE if message.endswith(os.strerror(number))), None)


def _room(failure: OSError) -> str:
    """Return how much room there is where a file could not be written."""
    if failure.errno == errno.EFBIG:
        limit = _limit("RLIMIT_FSIZE")
        return "" if limit is None else f" (a file of this process may have {limit:,} bytes, see `ulimit -f`)"
    if not failure.filename:
        return ""
    place = Path(_text(failure.filename)).absolute()
    folder = next((folder for folder in place.parents if folder.is_dir()), None)
    if folder is None:
        return ""
    try:
        found = os.statvfs(folder)
        free = shutil.disk_usage(folder).free
    except (OSError, AttributeError):  # Windows has no statvfs
        return ""
    if found.f_files and not found.f_favail:
        return f" (no further file fits into {folder}: no inodes are left)"
    return f" ({free:,} bytes are free in {folder})"


def _more_handles() -> str:
    limit = _limit("RLIMIT_NOFILE")
    now = "" if limit is None else f", {limit:,} now"
    return f"let this process open more files (`ulimit -n`{now}), or give fewer --dataloader-workers"


def _more_memory() -> str:
    limit = _limit("RLIMIT_AS")
    if limit is not None:
        return f"let this process have more than {limit / 2**20:,.0f} MiB (`ulimit -v`)"
    return "use a machine with more, or end other programs on this one"


def _limit(name: str) -> int | None:
    """Return a limit of this process; None where there is none."""
    if resource is None or not hasattr(resource, name):
        return None
    limit = resource.getrlimit(getattr(resource, name))[0]
    return None if limit == resource.RLIM_INFINITY or limit >= _UNLIMITED else limit


def _detail(failure: OSError | MemoryError) -> str:
    words = str(failure).strip().split("\n", 1)[0][:300] if isinstance(failure, MemoryError) else ""
    return f": {words}" if words else ""


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)

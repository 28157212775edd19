"""Files in an object store or on a hub: which locations are such, and their bytes through fsspec.

fsspec and the libraries it calls are imported when a remote location is first used. Their file systems do not survive
a fork, so every process gets one of its own. Listings of stores are not remembered: other processes write as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from scalselect.errors import OptionError, ScalselectError, did_you_mean
from scalselect.failures import NO_HANDLES, NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOLS = {"s3": "scalselect[s3]", "gs": "scalselect[gs]", "hf": "huggingface_hub"}  # and what to install for each
WRITABLE = ("s3", "gs")  # every file written to a hub is a commit there

_LOCATION = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_TOLD = 300  # characters of what a store says
_KINDS_OF_REPOSITORY = ("datasets", "models", "spaces")
_OF_THIS_MACHINE = {*NO_SPACE, *NO_HANDLES}
# What stores call the state of an object; which of them a store has is its own affair.
_VERSION_KEYS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "oid", "LastModified", "updated", "mtime", "size")


def is_remote(location: object) -> bool:
    """Tell whether a location is a URL such as ``s3://bucket/pool.json``, of a known protocol or not."""
    return isinstance(location, str) and _LOCATION.match(location) is not None


def is_known(location: str) -> bool:
    """Tell whether a remote location is one that can be read: of a known protocol, with something behind it."""
    try:
        _parts(location)
    except OptionError:
        return False
    return True


def lies_beside(location: str, other: str) -> bool:
    """Tell whether two locations lie in the same bucket, or the same repository of a hub; a local one never does."""
    return is_known(other) and _container(location) == _container(other)


def normalised(location: str) -> str:
    """Return a remote location in its one spelling: no ``.``, ``..`` or empty part, no slash at its end.

    A ``..`` leads up as it would on a disk, but never out of the bucket or the repository's owner.

    Raises
    ------
    OptionError
        The protocol is unknown, or nothing stands behind it.
    """
    protocol, bucket, key = _parts(location)
    inside = posixpath.normpath(f"/{key}").lstrip("/")
    return f"{protocol}://{bucket}/{inside}" if inside else f"{protocol}://{bucket}"


def _container(location: str) -> tuple[str, ...]:
    """Return protocol and bucket; of a hub protocol, kind, owner and name of the repository, without its revision."""
    protocol, _, key = normalised(location).partition("://")
    parts = key.split("/")
    if protocol != "hf":
        return protocol, parts[0]
    kind = parts.pop(0) if parts[0] in _KINDS_OF_REPOSITORY else "models"
    return protocol, kind, *(part.partition("@")[0] for part in parts[:2])


def filesystem(location: str) -> Any:
    """Return this process's fsspec file system for a location.

    Raises
    ------
    OptionError
        The protocol is unknown, or what it needs is not installed.
    """
    protocol, _, _ = _parts(location)
    try:
        import fsspec  # noqa: PLC0415  only where something is remote

        # fsspec keeps one file system a process, and forgets those of the process it was forked from.
        return fsspec.filesystem(protocol, use_listings_cache=protocol == "hf")
    except ImportError as error:
        raise OptionError(
            f"{protocol}:// needs a library that is not installed: pip install '{PROTOCOLS[protocol]}' ({location})"
        ) from error


@contextlib.contextmanager
def told_as_os_errors(location: str) -> Iterator[None]:
    """Turn whatever a store's library raises in the block into an OSError that names the location.

    The library has tried again by then; see `docs/remote.md` for how often.

    Raises
    ------
    FileNotFoundError, FileExistsError, IsADirectoryError
        As on a disk.
    PermissionError
        The store denies access, which some do for a missing object as well.
    OSError
        Everything else: no credentials, no connection, a store that fails.
    """
    try:
        yield
    except (ScalselectError, MemoryError):
        raise
    except OSError as error:
        if error.errno in _OF_THIS_MACHINE:
            raise
        raise _as_on_a_disk(error, location) from error
    except Exception as error:  # libraries of stores raise exceptions of their own families
        raise OSError(errno.EIO, f"the store cannot be used: {_words(error)}", location) from error


def _as_on_a_disk(error: OSError, location: str) -> OSError:
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, "there is such a file already", location)
    if isinstance(error, IsADirectoryError):
        return IsADirectoryError(errno.EISDIR, "a folder, where a file is wanted", location)
    status = getattr(getattr(error, "response", None), "status_code", None)  # of a hub
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or status == HTTPStatus.NOT_FOUND:
        words = _words(error)  # some stores name the key alone
        return FileNotFoundError(errno.ENOENT, words if " " in words else os.strerror(errno.ENOENT), location)
    if isinstance(error, PermissionError) or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        told = f"access denied, or missing where listing is not allowed: {_words(error)}"
        return PermissionError(errno.EACCES, told, location)
    return OSError(errno.EIO, f"the store cannot be used: {_words(error)}", location)


def read_remote(location: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of a remote file, or those from `start` to `stop` (excluded).

    Raises
    ------
    OSError
        See `told_as_os_errors`.
    """
    store = filesystem(location)
    key = key_of(location)
    with told_as_os_errors(location):
        if "/" not in key:
            raise IsADirectoryError
        if start == 0 and stop is None:
            return _whole(store, location, key)
        if stop is not None and stop <= start:
            return b""
        part: bytes = store.cat_file(key, start=start, end=stop)
        return part


def _whole(store: Any, location: str, key: str) -> bytes:
    """Return the bytes of a file with one request, where fsspec would first ask for its size."""
    content: bytes
    if location.startswith("hf:"):
        try:
            store.resolve_path(key)  # asks once a process
        except FileNotFoundError as error:  # no repository, or none for this user: not a file that is missing in it
            raise PermissionError(str(error)) from error
        with store.open(key, "rb", block_size=0) as stream:
            content = stream.read()
    else:
        content = store.cat_file(key, **({"max_concurrency": 1} if location.startswith("s3:") else {}))
    return content


def remote_facts(location: str) -> dict[str, Any]:
    """Return what a store says of a file or folder: `type` (`file` or `directory`), `size`, and more of its own.

    Raises
    ------
    FileNotFoundError
        Neither lies there.
    OSError
        See `told_as_os_errors`.
    """
    store = filesystem(location)
    with told_as_os_errors(location):
        return dict(store.info(key_of(location)))


def version_of(facts: dict[str, Any]) -> tuple[str, ...]:
    """Return what changes when a remote file is replaced: entity tag, time and size, as far as its store has them."""
    return tuple(f"{name}={facts[name]}" for name in _VERSION_KEYS if facts.get(name) is not None)


def key_of(location: str) -> str:
    """Return the location as fsspec wants it, without its protocol. Raises OptionError."""
    return normalised(location).partition("://")[2]


def _parts(location: str) -> tuple[str, str, str]:
    """Return protocol, first part and the rest. Raises OptionError."""
    found = _LOCATION.match(os.fspath(location))
    protocol = found[1].lower() if found else ""
    if found is None or protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        near = did_you_mean(protocol, PROTOCOLS)
        raise OptionError(f"location is neither a local path nor one of {known}: {location}{near}")
    bucket, _, key = found[2].lstrip("/").partition("/")
    if not bucket:
        raise OptionError(f"location names nothing behind its protocol: {location}")
    return protocol, bucket, key


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:_TOLD] or type(error).__name__

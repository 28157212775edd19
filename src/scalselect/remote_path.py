"""A folder or file in an object store, with as much of `pathlib.Path` as a run folder needs."""

from __future__ import annotations

import errno
import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from scalselect.remote_files import (
    filesystem,
    is_remote,
    normalised,
    read_remote,
    remote_facts,
    told_as_os_errors,
    version_of,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_READ_AT_ONCE = 8 * 2**20  # bytes a request

_exclusive: dict[str, bool] = {}  # by bucket: whether its store knows exclusive creation, once that was tried


def path_of(location: str | os.PathLike[str]) -> Path:
    """Return the path that a location stands for: a `Path` of a local one, a `RemotePath` of a URL.

    The latter does what this package asks of a path, and is typed as one; what writes goes through
    `scalselect.storage`. Raises OptionError for a URL of an unknown protocol.
    """
    if as_remote(location) is not None:
        return cast("Path", location)
    if isinstance(location, str) and is_remote(location):
        return cast("Path", RemotePath(location))
    return Path(location)


def as_remote(path: object) -> RemotePath | None:
    """Return a path that is a `RemotePath` as such, None for any other."""
    return path if isinstance(path, RemotePath) else None


class _Status(NamedTuple):
    st_size: int


class RemotePath:
    """A place in an object store. Picklable; holds no connection. Folders exist there where a file lies below them.

    Parameters
    ----------
    location
        URL such as ``s3://bucket/run``.

    Raises
    ------
    OptionError
        The protocol is unknown. All that looks into the store raises OSError as on a disk; see
        `scalselect.remote_files.told_as_os_errors`.
    """

    __slots__ = ("_key", "protocol")

    def __init__(self, location: str) -> None:
        self.protocol, _, key = normalised(location).partition("://")
        self._key = PurePosixPath(key)

    def __str__(self) -> str:
        return f"{self.protocol}://{self._key}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> RemotePath:
        return self._at(self._key / str(name))

    @property
    def name(self) -> str:
        """Last part."""
        return self._key.name

    @property
    def stem(self) -> str:
        """Last part without its ending."""
        return self._key.stem

    @property
    def suffix(self) -> str:
        """Ending of the last part."""
        return self._key.suffix

    @property
    def parent(self) -> RemotePath:
        """The folder it lies in; of a bucket itself the bucket."""
        return self._at(self._key.parent if len(self._key.parts) > 1 else self._key)

    def with_name(self, name: str) -> RemotePath:
        """Return the place of that name beside it."""
        return self._at(self._key.with_name(name))

    def relative_to(self, other: object) -> PurePosixPath:
        """Return the way from a folder above. Raises ValueError where it is none."""
        if not isinstance(other, RemotePath) or other.protocol != self.protocol:
            raise ValueError(f"{self} does not lie in {other}")
        return self._key.relative_to(str(other).partition("://")[2])

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def absolute(self) -> RemotePath:
        """Return itself."""
        return self

    def exists(self) -> bool:
        """Tell whether a file or folder lies there."""
        return self._type() is not None

    def is_file(self) -> bool:
        """Tell whether a file lies there."""
        return self._type() == "file"

    def is_dir(self) -> bool:
        """Tell whether files lie below it."""
        return self._type() == "directory"

    def stat(self) -> _Status:
        """Return the size of a file in bytes, as `st_size`."""
        return _Status(int(remote_facts(str(self))["size"]))

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies in a folder."""
        with told_as_os_errors(str(self)):
            names = filesystem(str(self)).ls(str(self._key), detail=False)
        for name in names:
            found = PurePosixPath(name)
            if found != self._key:  # some stores list the folder itself
                yield self._at(found)

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the files in a folder, each with what changes when it is replaced; one request."""
        try:
            with told_as_os_errors(str(self)):
                found = filesystem(str(self)).ls(str(self._key), detail=True)
        except FileNotFoundError:
            return {}
        return {PurePosixPath(facts["name"]).name: version_of(facts) for facts in found if facts["type"] == "file"}

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: folders come with the files in them."""

    def read_bytes(self) -> bytes:
        """Return the content of a file."""
        return read_remote(str(self))

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Return a stream that reads a file in pieces. Raises ValueError for any other mode than `rb`."""
        if mode != "rb":
            raise ValueError(f"remote files are opened for reading bytes only: {mode!r}")
        return io.BufferedReader(_RemoteStream(str(self)), _READ_AT_ONCE)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file."""
        if not missing_ok and not self.is_file():
            remote_facts(str(self))  # raises
        try:
            with told_as_os_errors(str(self)):
                filesystem(str(self)).rm_file(str(self._key))
        except FileNotFoundError:  # some stores tell
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Remove all files below it; none may be there."""
        try:
            with told_as_os_errors(str(self)):
                names = filesystem(str(self)).find(str(self._key))
        except FileNotFoundError:
            return
        for name in names:
            self._at(PurePosixPath(name)).unlink(missing_ok=True)

    def upload(self, content: bytes) -> None:
        """Write a file, whole, replacing what was there."""
        with told_as_os_errors(str(self)):
            filesystem(str(self)).pipe_file(str(self._key), content)

    def upload_file(self, file: Path) -> None:
        """Write a file from a local one, whole, replacing what was there."""
        with told_as_os_errors(str(self)):
            filesystem(str(self)).put_file(str(file), str(self._key))

    def create(self, content: bytes) -> None:
        """Write a file unless there is one. Raises FileExistsError.

        The store is asked to refuse a second writer. Of one that is known not to do so, the last of several writers at
        the same moment wins.
        """
        if _exclusive.get(self._bucket, True):
            self._create(content)
            return
        if self.exists():
            raise FileExistsError(errno.EEXIST, "there is such a file already", str(self))
        self.upload(content)

    def knows_exclusive_creation(self) -> bool:
        """Tell whether the store refuses to create a file that is there, as found out once a process.

        It is tried with this file, which must not exist, and does not afterwards. Raises OSError where it cannot be
        written.
        """
        if self._bucket not in _exclusive:
            try:
                _exclusive[self._bucket] = self._is_created_once()
            finally:
                self.unlink(missing_ok=True)
        return _exclusive[self._bucket]

    def _is_created_once(self) -> bool:
        try:
            self._create(b"")
        except PermissionError:
            raise
        except OSError:
            self.upload(b"")  # of a store that can be written, the condition is what it does not know
            return False
        try:
            self._create(b"")
        except FileExistsError:
            return True
        return False

    def _create(self, content: bytes) -> None:
        with told_as_os_errors(str(self)):
            filesystem(str(self)).pipe_file(str(self._key), content, mode="create")

    @property
    def _bucket(self) -> str:
        return f"{self.protocol}://{self._key.parts[0]}"

    def _type(self) -> str | None:
        try:
            return str(remote_facts(str(self))["type"])
        except FileNotFoundError:
            return None

    def _at(self, key: PurePosixPath) -> RemotePath:
        return RemotePath(f"{self.protocol}://{key}")


class _RemoteStream(io.RawIOBase):
    """A remote file, read by ranges."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location
        self._size = int(remote_facts(location)["size"])
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        content = read_remote(self._location, self._position, max(stop, self._position))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

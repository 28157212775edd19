"""Where the members of a tar lie, and which of them make one sample, as WebDataset groups them."""

from __future__ import annotations

import hashlib
import re
import tarfile
from array import array
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from scalselect.dataset.data_files import first_bytes
from scalselect.dataset.tar_headers import ENCODING, ERRORS, Member, members_of
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_META = re.compile(r"__[^/]*__($|/)")  # what `webdataset` passes over
_APPLE_DOUBLE = re.compile(r"(?:.*/)?\._[^/]*")  # what macOS keeps beside a file: attributes, no data
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class TarIndex:
    """The members of a tar that belong to samples, in order.

    Attributes
    ----------
    begins, stops
        Where each member's first header begins and its last block ends, int64 [members].
    contents, sizes
        Where its content begins, and the number of bytes of it, int64 [members].
    names, name_stops
        The names of all members, one after the other, and where each of them ends, int64 [members].
    firsts
        First member of each sample, and the number of members at the end, int64 [samples + 1].
    faults
        Why a sample cannot be used, as far as that is known from names and headers.
    shared_headers
        Begin and end of headers that hold for all members behind them.
    """

    begins: NDArray[np.int64]
    stops: NDArray[np.int64]
    contents: NDArray[np.int64]
    sizes: NDArray[np.int64]
    names: bytes
    name_stops: NDArray[np.int64]
    firsts: NDArray[np.int64]
    faults: dict[int, str]
    shared_headers: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def members_of(self, sample: int) -> range:
        """Return the members of a sample."""
        return range(int(self.firsts[sample]), int(self.firsts[sample + 1]))

    def name(self, member: int) -> str:
        """Return the name of a member."""
        start = int(self.name_stops[member - 1]) if member else 0
        return self.names[start : int(self.name_stops[member])].decode(ENCODING, ERRORS)


def key_and_field(name: str) -> tuple[str, str]:
    """Return the key of the sample that a member belongs to, and its field, in lower case; both empty if to none.

    A name is cut as `webdataset` and `datasets` do it, whose expression is ``^((?:.*/|)[^.]+)[.]([^/]*)$``; by hand,
    for a name of many slashes would keep that busy for ever.
    """
    dot = name.find(".", name.rfind("/") + 1)
    if dot <= 0:
        return "", ""
    one_line = name.partition("\n")[0][: dot - 1]  # where a folder may end: before the key's last character
    folder = one_line.rfind("/") + 1
    return ("", "") if "." in name[folder:dot] else (name[:dot], name[dot + 1 :].lower())


def begins_as_tar(path: Path) -> bool:
    """Tell whether a file begins as a tar does, even an empty one; False also where it cannot be read."""
    block = first_bytes(path, tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return True
    try:
        tarfile.TarInfo.frombuf(block, ENCODING, ERRORS)
    except tarfile.TarError:
        return False
    return True


def index_tar(stream: IO[bytes], size: int, path: Path) -> TarIndex:
    """Read the headers of a tar.

    Parameters
    ----------
    stream
        The tar, from its beginning; can seek.
    size
        Bytes of it.
    path
        What messages call it.

    Raises
    ------
    DatasetError
        The tar is damaged, cut short, or something follows its end.
    """
    found = _Members()
    end = 0
    try:
        for member in members_of(stream, size):
            found.add(member)
            end = member.stop
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DatasetError(f"data file is damaged: {path} (a tar, and at or behind byte {end}: {error})") from None
    _check_end(stream, end, path)
    return found.index()


def _check_end(stream: IO[bytes], end: int, path: Path) -> None:
    """Check that a tar ends where its last member does. `tarfile` takes a broken header for the end."""
    stream.seek(end)
    position = end
    while piece := stream.read(_PIECE):
        if piece.count(0) != len(piece):
            place = position + len(piece) - len(piece.lstrip(b"\0"))
            how = "no header" if place < end + tarfile.BLOCKSIZE else "something follows the end of the archive"
            together = "; were two tars put together? Readers stop at the first end" if how != "no header" else ""
            raise DatasetError(f"data file is damaged: {path} (a tar, and at byte {place} {how}{together})")
        position += len(piece)


class _Members:
    """Members as they are found, in compact arrays."""

    def __init__(self) -> None:
        self._numbers = array("q")  # begin, stop, content, size and end of the name of each member, one after the other
        self._names = bytearray()
        self._firsts = array("q")
        self._hashes = array("Q")  # of the keys of samples
        self._faults: dict[int, str] = {}
        self._shared: list[tuple[int, int]] = []
        self._end = 0
        self._key = ""
        self._fields: set[str] = set()  # of the sample that members are being added to

    def add(self, member: Member) -> None:
        """Add the next member of the tar, unless it belongs to no sample."""
        name, begin, content, stop, size, kind = member
        if begin > self._end:
            self._shared.append((self._end, begin))
        self._end = stop
        key, field = key_and_field(name)
        if not key or kind == "other" or _META.match(name) or _APPLE_DOUBLE.fullmatch(name):
            return
        if key != self._key:
            self._key, self._fields = key, set()
            self._firsts.append(len(self._numbers) // 5)
            spelled = key.encode(ENCODING, ERRORS)
            self._hashes.append(int.from_bytes(hashlib.blake2b(spelled, digest_size=8).digest()))
        if field in self._fields:
            self._faults.setdefault(len(self._firsts) - 1, f"sample `{key}` has two members `.{field}`")
        if kind != "file":
            what = "link, which no reader of WebDataset follows" if kind == "link" else kind
            self._faults.setdefault(len(self._firsts) - 1, f"member `{name}` is a {what}")
        self._fields.add(field)
        self._names += name.encode(ENCODING, ERRORS)
        self._numbers.extend((begin, stop, content, size, len(self._names)))

    def index(self) -> TarIndex:
        """Return what was found."""
        numbers = np.frombuffer(self._numbers, np.int64).reshape(-1, 5) if self._numbers else np.empty((0, 5), np.int64)
        begins, stops, contents, sizes, name_stops = (column.copy() for column in numbers.T)
        firsts = np.array([*self._firsts, len(numbers)], np.int64)
        index = TarIndex(
            begins, stops, contents, sizes, bytes(self._names), name_stops, firsts, self._faults, tuple(self._shared)
        )
        for sample in self._repeated():
            key, _ = key_and_field(index.name(int(firsts[sample])))
            detail = f"members of sample `{key}` lie apart, or two samples have its key"
            index.faults.setdefault(sample, f"{detail}: readers take each stretch of them for a sample")
        return index

    def _repeated(self) -> list[int]:
        """Return the samples whose key another one has too."""
        _, inverse, counts = np.unique(np.array(self._hashes, np.uint64), return_inverse=True, return_counts=True)
        return np.flatnonzero(counts[inverse] > 1).tolist()

"""The members of a tar by their headers: plain ones are read here, whatever else by `tarfile`.

`tarfile` takes some thirty microseconds for a header, which is minutes for a tar of millions of pictures. Nearly all
headers are of two kinds: that of a regular file, and in front of it one that tells its time to a fraction of a second,
as the writer of `webdataset` makes for every member. At any other, `tarfile` reads the member.
"""

from __future__ import annotations

import os
import re
import tarfile
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCODING, ERRORS = "utf-8", "surrogateescape"
_BLOCK = tarfile.BLOCKSIZE
_FILE, _FIELDS = tarfile.REGTYPE[0], tarfile.XHDTYPE[0]  # a regular file; fields of the member behind it
_TIMES = re.compile(rb"(?:\d+ [acm]time=-?[\d.]+\n)+")
# The numbers of a plain header, as all writers write them: mode, owner, group, size and time; a device's two; the sum.
_COUNT = rb"(?:[0-7]{7}[ \0]|[0-7]{6} \0|\0{8})"
_NUMBERS = re.compile(_COUNT + rb"{3}([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})\0")
_DEVICE = re.compile(_COUNT + rb"{2}")
_CHECKED_AT_ONCE = 1 << 10  # headers
_SUM = slice(148, 156)  # where a header has its checksum, which counts as spaces in the sum


class Member(NamedTuple):
    """A member of a tar.

    Attributes
    ----------
    name
        With its folders.
    begin, content, stop
        Where its first header begins, its content begins, and its last block ends.
    size
        Bytes of its content.
    kind
        `file`, `sparse file`, `link` or `other`.
    """

    name: str
    begin: int
    content: int
    stop: int
    size: int
    kind: str = "file"


def members_of(stream: IO[bytes], size: int) -> Iterator[Member]:
    """Yield the members of a tar in order; they end at what is no header, be it the end of the archive or not.

    Parameters
    ----------
    stream
        The tar; a file of the system.
    size
        Bytes of it.

    Raises
    ------
    tarfile.TarError, ValueError, OverflowError
        A header is damaged, or a member does not end in the file.
    """
    descriptor, position = stream.fileno(), 0
    sums = _Sums()
    tar: tarfile.TarFile | None = None
    while True:
        # Fields that hold for all members behind them may change any: then nothing is plain.
        plain = tar is None or not tar.pax_headers
        member = _plain_member(os.pread(descriptor, 3 * _BLOCK, position), position, sums) if plain else None
        if member is None:
            tar = tar or _opened(stream)
            member = _member_by_tarfile(tar, stream, position)
        if member is None:
            break
        if not position < member.stop <= size:
            raise tarfile.ReadError(f"`{member.name}` does not end in the file")
        position = member.stop
        yield member
    sums.check()


class _Sums:
    """The checksums of plain headers, looked at many at a time."""

    def __init__(self) -> None:
        self._headers: list[bytes] = []
        self._places: list[tuple[int, int]] = []  # where each header lies, and the checksum that it tells

    def add(self, header: bytes, position: int, told: int) -> None:
        """Add a header. Raises ReadError if it, or one before it, has another checksum than it tells."""
        self._headers.append(header)
        self._places.append((position, told))
        if len(self._headers) == _CHECKED_AT_ONCE:
            self.check()

    def check(self) -> None:
        """Look at those that were not yet looked at. Raises ReadError."""
        headers = np.frombuffer(b"".join(self._headers), np.uint8).reshape(-1, _BLOCK)  # [headers, 512]
        sums = headers.sum(1, dtype=np.int64) - headers[:, _SUM].sum(1, dtype=np.int64) + 8 * ord(" ")
        for (position, told), found in zip(self._places, sums.tolist(), strict=True):
            if told != found:
                raise tarfile.ReadError(f"bad checksum of the header at byte {position}")
        self._headers.clear()
        self._places.clear()


def _plain_member(data: bytes, position: int, sums: _Sums) -> Member | None:
    """Return the member whose header, or headers, `data` begins with; None where they are not plain."""
    start = 0
    fields = _plain_size(data, 0, _FIELDS)
    if fields is not None:
        if not _TIMES.fullmatch(data, _BLOCK, _BLOCK + min(fields, _BLOCK)):
            return None
        start = 2 * _BLOCK
    size = _plain_size(data, start, _FILE)
    if size is None:
        return None
    for place in {0, start}:
        told = int(data[place + _SUM.start : place + _SUM.start + 6], 8)
        sums.add(data[place : place + _BLOCK], position + place, told)
    content = position + start + _BLOCK
    name = data[start : start + 100].partition(b"\0")[0].decode(ENCODING, ERRORS)
    return Member(name, position, content, content + -(-size // _BLOCK) * _BLOCK, size)


def _plain_size(data: bytes, start: int, kind: int) -> int | None:
    """Return the size that a plain header of a kind tells; None if it is not such."""
    header = data[start : start + _BLOCK]
    if len(header) < _BLOCK or header[156] != kind or header[257:262] != b"ustar" or header[345]:
        return None  # with something at 345 it may have a longer name
    numbers = _NUMBERS.match(header, 100)
    if numbers is None or not _DEVICE.match(header, 329):  # `tarfile` takes an odd number for the end of the archive
        return None
    return int(numbers[1], 8)


def _opened(stream: IO[bytes]) -> tarfile.TarFile:
    stream.seek(0)
    return tarfile.open(fileobj=stream, mode="r:", encoding=ENCODING, errors=ERRORS)


def _member_by_tarfile(tar: tarfile.TarFile, stream: IO[bytes], position: int) -> Member | None:
    """Return the member at a position; None where `tarfile` finds no header."""
    tar.firstmember = None  # type: ignore[attr-defined]
    tar.members.clear()  # type: ignore[attr-defined]
    tar.offset = position
    stream.seek(position)
    found = tar.next()
    if found is None:
        return None
    is_link = found.issym() or found.islnk()
    kind = "sparse file" if found.issparse() else "file" if found.isreg() else "link" if is_link else "other"
    return Member(found.name, found.offset, found.offset_data, tar.offset, found.size, kind)

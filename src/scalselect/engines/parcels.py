"""Values on their way between two processes: small ones through the connection, large ones through memory of their own.

A large value is written into a file that lies in memory and has no name, and only its handle goes through the
connection: the sender never waits for a reader, and nothing is left anywhere when either of them is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

_LARGE = 2**15  # bytes; a few messages of this size find room in a connection that nobody reads
_ALIGNMENT = 64  # of arrays in memory, as the numerical libraries place their own


def send(connection: Connection, value: Any) -> None:
    """Send a value that can be pickled; arrays are not copied into the pickle.

    Raises
    ------
    Exception
        Whatever pickling raises, before anything was sent.
    OSError
        If nobody is at the other end.
    """
    buffers: list[pickle.PickleBuffer] = []
    pieces: list[bytes | memoryview] = [pickle.dumps(value, protocol=5, buffer_callback=buffers.append)]
    pieces += [buffer.raw() for buffer in buffers]
    sizes = [len(piece) for piece in pieces]
    if sum(sizes) > _LARGE:
        memory = _written_into_memory(pieces)
        if memory is not None:
            try:
                connection.send((sizes, None))
                reduction.send_handle(connection, memory, None)
            finally:
                os.close(memory)
            return
    connection.send((sizes, [bytes(piece) for piece in pieces]))


def receive(connection: Connection) -> Any:
    """Return the next value; its arrays are private, writable and aligned.

    Raises
    ------
    EOFError, OSError
        If the other end is gone, or no file can be opened.
    """
    sizes, pieces = connection.recv()
    places = list(_places(sizes))
    memory = _aligned_memory(places[-1].stop)
    if pieces is None:
        with _received_file(connection) as file:
            _read_into(memory, file)
    else:
        for place, piece in zip(places, pieces, strict=True):
            memory[place] = piece
    pickled, *buffers = (memory[place] for place in places)
    return pickle.loads(pickled, buffers=buffers)  # noqa: S301  from our own process


def _written_into_memory(pieces: Sequence[bytes | memoryview]) -> int | None:
    """Return the descriptor of a file in memory that holds the pieces; None where there cannot be one."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        file = os.memfd_create("parcel")
    except OSError:
        return None
    try:
        places = list(_places([len(piece) for piece in pieces]))
        os.ftruncate(file, places[-1].stop)
        for place, piece in zip(places, pieces, strict=True):
            left, position = memoryview(piece), place.start
            while left:
                written = os.pwrite(file, left, position)
                left, position = left[written:], position + written
    except OSError:  # a limit on the size of files
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file


def _places(sizes: Sequence[int]) -> Iterator[slice]:
    begin = 0
    for size in sizes:
        yield slice(begin, begin + size)
        begin += -(-size // _ALIGNMENT) * _ALIGNMENT


def _aligned_memory(size: int) -> memoryview:
    store = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    begin = -store.ctypes.data % _ALIGNMENT
    return store.data[begin : begin + size]


@contextlib.contextmanager
def _received_file(connection: Connection) -> Iterator[int]:
    try:
        file = reduction.recv_handle(connection)
    except RuntimeError as error:  # its word for a handle that found no room
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
    try:
        yield file
    finally:
        os.close(file)


def _read_into(memory: memoryview, file: int) -> None:
    position = 0
    while position < len(memory):
        read = os.preadv(file, [memory[position:]], position)
        if not read:
            raise EOFError("a parcel is shorter than announced")
        position += read

"""What goes through a connection arrives as it was, however large, and nobody waits for a reader."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from scalselect.engines import parcels

ARRAYS = [
    np.arange(10),
    np.full((300, 300), 0.5),
    np.zeros((0, 3)),
    np.asfortranarray(np.arange(20_000).reshape(100, 200)),
]


@pytest.fixture
def ends():
    here, there = multiprocessing.Pipe()
    with here, there:
        yield here, there


def open_handles():
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


def through(ends, value):
    sender = threading.Thread(target=parcels.send, args=(ends[0], value))
    sender.start()
    found = parcels.receive(ends[1])
    sender.join()
    return found


@pytest.mark.parametrize("in_memory", [True, False])
def test_arrays_arrive_private_writable_and_aligned(ends, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(parcels, "_LARGE", 10**9)
    sent = {"arrays": [*ARRAYS[:1], ARRAYS[0]], "others": ARRAYS[2:], "text": "x" * 10}
    for value in (sent, ARRAYS[1][:100]):
        np.testing.assert_equal(through(ends, value), value)
    found = through(ends, sent)
    assert found["arrays"][0] is found["arrays"][1]
    for array in (*found["arrays"], *found["others"]):
        assert array.flags.writeable
        assert array.size == 0 or array.ctypes.data % 64 == 0


def test_large_values_need_no_reader_and_leave_no_handle(ends):
    before = open_handles()
    for number in range(20):  # a connection holds a small part of this
        parcels.send(ends[0], np.full(10**6, number))
    for number in range(20):
        assert parcels.receive(ends[1])[-1] == number
    assert open_handles() == before


def test_where_no_file_may_be_as_large_values_go_through_the_connection(ends):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        parcels.send(ends[0], np.arange(5000))  # 40 kB
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert parcels.receive(ends[1]).sum() == sum(range(5000))


def test_without_free_handles_a_large_value_is_an_error_of_the_system(ends):
    parcels.send(ends[0], np.zeros(10**5))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_handles()) + 1, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            parcels.receive(ends[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in taken:
            os.close(number)


def test_what_cannot_be_pickled_is_an_error_and_nothing_is_sent(ends):
    with pytest.raises(Exception, match="pickle"):
        parcels.send(ends[0], lambda: None)
    parcels.send(ends[0], 1)
    assert parcels.receive(ends[1]) == 1

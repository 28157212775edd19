"""Files appear whole or not at all, one creator wins, and only dead writers' leavings are swept."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from object_store import names_in
from scalselect import storage
from scalselect.remote_path import path_of
from scalselect.storage import (
    create_exclusive,
    publish_bytes,
    publish_stream,
    remove_tree,
    sha256_of_bytes,
    sha256_of_file,
)

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class StoppedError(Exception):
    """Stands for whatever ends a writer in the middle."""


def test_published_file_holds_the_content_and_nothing_else_is_left(tmp_path):
    publish_bytes(tmp_path / "file", b"first")
    publish_bytes(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt, OSError])
def test_exception_inside_the_block_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half():
        with publish_stream(path) as stream:
            stream.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_exception_inside_the_block_publishes_no_new_file(tmp_path):
    with pytest.raises(StoppedError), publish_stream(tmp_path / "file"):
        raise StoppedError
    assert list(tmp_path.iterdir()) == []


def test_readers_see_the_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "file"
    with publish_stream(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
    with publish_stream(path) as stream:
        stream.write(b"newer")
        stream.flush()
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"


def test_concurrent_readers_never_see_partial_content(tmp_path):
    path = tmp_path / "file"
    whole = {letter * 200_000 for letter in (b"a", b"b")}
    publish_bytes(path, b"a" * 200_000)
    done = threading.Event()

    def read_all_the_time():
        seen = set()
        while not done.is_set():
            seen.add(path.read_bytes())
        return seen

    with ThreadPoolExecutor(1) as readers:
        reader = readers.submit(read_all_the_time)
        for _ in range(20):
            publish_bytes(path, b"b" * 200_000)
            publish_bytes(path, b"a" * 200_000)
        done.set()
        seen = reader.result()
    assert seen
    assert seen <= whole


def test_missing_folder_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        publish_bytes(tmp_path / "no folder" / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_first_creator_wins_and_its_content_stays(tmp_path):
    path = tmp_path / "file"
    assert create_exclusive(path, b"first") is True
    assert create_exclusive(path, b"second") is False
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_exactly_one_of_many_threads_creates(tmp_path):
    path = tmp_path / "file"
    contents = [f"content of {i}".encode() * 1000 for i in range(16)]
    gate = threading.Barrier(len(contents))

    def create(content):
        gate.wait(timeout=30)
        return create_exclusive(path, content)

    with ThreadPoolExecutor(len(contents)) as threads:
        created = list(threads.map(create, contents))
    assert created.count(True) == 1
    assert path.read_bytes() == contents[created.index(True)]
    assert list(tmp_path.iterdir()) == [path]


def test_created_file_is_whole_when_it_appears(tmp_path, monkeypatch):
    path = tmp_path / "file"
    linked = []

    def link(source, target, link=os.link):
        assert not path.exists()
        linked.append(source.read_bytes())
        link(source, target)

    monkeypatch.setattr(storage.os, "link", link)
    assert create_exclusive(path, b"content") is True
    assert linked == [b"content"]


def test_hashes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_bytes(b"abc") == SHA256_OF_ABC
    assert sha256_of_bytes(memoryview(b"xabcx")[1:4]) == SHA256_OF_ABC
    assert sha256_of_file(tmp_path / "file") == SHA256_OF_ABC


def test_in_a_bucket_a_file_appears_when_the_block_ends(bucket):
    path = path_of(f"{bucket}/deep/file")
    with publish_stream(path) as stream:
        stream.write(b"0123456789")
        stream.truncate(20)
        stream.seek(2)
        stream.write(b"xy")
        assert names_in(bucket) == []
    assert path.read_bytes() == b"01xy456789" + bytes(10)
    assert sha256_of_file(path) == sha256_of_bytes(path.read_bytes())


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt, OSError])
def test_in_a_bucket_an_exception_leaves_the_old_file(bucket, error):
    path = path_of(f"{bucket}/file")
    publish_bytes(path, b"old")

    def write_half():
        with publish_stream(path) as stream:
            stream.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert names_in(bucket) == ["file"]


def test_in_a_bucket_the_first_creator_wins(bucket):
    path = path_of(f"{bucket}/file")
    assert create_exclusive(path, b"first") is True
    assert create_exclusive(path, b"second") is False
    assert path.read_bytes() == b"first"


def test_trees_are_removed(tmp_path, bucket):
    for folder in (tmp_path / "tree", path_of(f"{bucket}/tree")):
        (folder / "deep").mkdir(parents=True)
        publish_bytes(folder / "deep" / "file", b"x")
        publish_bytes(folder.parent / "tree.json", b"x")
        remove_tree(folder)
        remove_tree(folder)
        assert [path.name for path in folder.parent.iterdir()] == ["tree.json"]

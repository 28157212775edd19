"""A path in an object store: names as pathlib has them, bytes as the store's own library reads them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from object_store import names_in, store
from scalselect.remote_path import RemotePath, as_remote, path_of

NAMES = st.lists(st.text("ab.-_ é", min_size=1).filter(lambda name: name.strip(".")), min_size=1, max_size=4)


@given(NAMES)
def test_names_are_those_of_pathlib(names):
    path, like = RemotePath("s3://bucket"), PurePosixPath("bucket")
    for name in names:
        path, like = path / name, like / name
    assert str(path) == f"s3://{like}"
    assert (path.name, path.stem, path.suffix) == (like.name, like.stem, like.suffix)
    assert str(path.parent) == f"s3://{like.parent}"
    assert path.parent / path.name == path
    assert str(path.with_name("x.json")) == f"s3://{like.with_name('x.json')}"
    assert path.relative_to(RemotePath("s3://bucket")) == like.relative_to("bucket")
    assert pickle.loads(pickle.dumps(path)) == path
    assert hash(RemotePath(str(path))) == hash(path)


def test_path_of_keeps_local_paths_local():
    assert path_of("a/b") == Path("a/b")
    assert path_of(Path("a/b")) == Path("a/b")
    assert as_remote(path_of("a/b")) is None
    remote = path_of("s3://b/run/")
    assert as_remote(remote) == RemotePath("s3://b/run")
    assert path_of(remote) is remote


def test_the_bucket_has_nothing_above_it():
    assert RemotePath("s3://b").parent == RemotePath("s3://b")


def test_other_paths_are_no_folders_of_it():
    for other in ("b", Path("b"), RemotePath("gs://b"), RemotePath("s3://b/other")):
        with pytest.raises(ValueError):
            RemotePath("s3://b/run").relative_to(other)


def test_what_lies_in_a_bucket(bucket):
    store().pipe_file(f"{bucket}/run/run.json", b"{}")
    store().pipe_file(f"{bucket}/run/deep/er/file", b"12345")
    run = RemotePath(f"{bucket}/run")
    assert run.is_dir()
    assert not run.is_file()
    assert run.exists()
    assert (run / "run.json").is_file()
    assert not (run / "run").exists()
    assert {path.name for path in run.iterdir()} == {"run.json", "deep"}
    assert (run / "deep" / "er" / "file").stat().st_size == 5
    with pytest.raises(FileNotFoundError):
        list((run / "nowhere").iterdir())


def test_files_are_written_created_and_removed(bucket, tmp_path):
    path = RemotePath(f"{bucket}/a/file [1]*?.bin")
    path.upload(b"first")
    path.upload(b"second")
    assert path.read_bytes() == b"second"
    with pytest.raises(FileExistsError):
        path.create(b"third")
    assert path.read_bytes() == b"second"
    other = path.with_name("new")
    other.create(b"fourth")
    (tmp_path / "local").write_bytes(b"fifth")
    path.upload_file(tmp_path / "local")
    assert (other.read_bytes(), path.read_bytes()) == (b"fourth", b"fifth")
    path.unlink()
    assert names_in(bucket) == ["a/new"]
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()


def test_a_tree_is_removed_and_its_neighbours_stay(bucket):
    for name in ("run/selected/a", "run/selected/b/[c]*", "run/selected-too", "run/selected.json"):
        store().pipe_file(f"{bucket}/{name}", b"x")
    RemotePath(f"{bucket}/run/selected").remove_tree()
    assert names_in(bucket) == ["run/selected-too", "run/selected.json"]
    RemotePath(f"{bucket}/run/selected").remove_tree()


def test_a_stream_reads_like_one_of_a_disk(bucket):
    content = bytes(range(256)) * 50
    store().pipe_file(f"{bucket}/file", content)
    here = io.BytesIO(content)
    with RemotePath(f"{bucket}/file").open("rb") as stream:
        for move in ((-9, io.SEEK_END), (100, io.SEEK_SET), (7, io.SEEK_CUR), (0, io.SEEK_END)):
            assert stream.seek(*move) == here.seek(*move)
            assert stream.read(20) == here.read(20)
        stream.seek(0)
        assert stream.read() == content
    with pytest.raises(ValueError):
        RemotePath(f"{bucket}/file").open("wb")
    with pytest.raises(FileNotFoundError):
        RemotePath(f"{bucket}/gone").open("rb")

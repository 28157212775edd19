"""Data in a bucket, in every container, alone and in several files: the records of the local ones, and the subsets."""

from __future__ import annotations

import io
import json
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from object_store import download, names_in, store, upload
from scalselect.dataset.opening import open_pool
from scalselect.dataset.remote_data import copies_of_data
from scalselect.dataset.vector_files import open_vectors
from scalselect.errors import DatasetError, OptionError
from scalselect.remote_path import path_of

ROWS = 6


def record(row):
    turns = [{"role": "user", "content": f"<image>What is {row}?"}, {"role": "assistant", "content": "A shape."}]
    return {"id": f"{row:03}", "messages": turns, "images": [f"pictures/{row}.png"]}


def write_json(folder):
    (folder / "pool.json").write_text(json.dumps([record(row) for row in range(ROWS)]))
    return "pool.json"


def write_parquet(folder):
    for part in range(2):
        table = pa.Table.from_pylist([record(row) for row in range(part * 3, part * 3 + 3)])
        pq.write_table(table, folder / f"train-{part:05}-of-00002.parquet")
    return "."


def write_saved(folder):
    datasets.Dataset.from_list([record(row) for row in range(ROWS)]).save_to_disk(folder / "saved", num_shards=2)
    return "saved"


def write_tars(folder):
    for part in range(2):
        with tarfile.open(folder / f"shard-{part:03}.tar", "w") as tar:
            for row in range(part * 3, part * 3 + 3):
                content = json.dumps({**record(row), "images": []}).encode()
                member = tarfile.TarInfo(f"{row:03}.json")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return "shard-{000..001}.tar"


def write_tars_for_a_glob(folder):
    write_tars(folder)
    return "shard-*.tar"


@pytest.mark.parametrize("write", [write_json, write_parquet, write_saved, write_tars, write_tars_for_a_glob])
def test_remote_data_are_the_local_ones_and_so_are_their_subsets(write, bucket, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    name = write(folder)
    upload(folder, f"{bucket}/data")
    here, there = open_pool(folder / name), open_pool(f"{bucket}/data/{name}")
    assert there.location == f"{bucket}/data/{name}".removesuffix("/.")
    assert (there.source, there.container, there.format) == (here.source, here.container, here.format)
    assert there.fingerprint() == here.fingerprint()
    assert [there.raw(row) for row in range(ROWS)] == [here.raw(row) for row in range(ROWS)]
    assert there.images == here.images.replace(str(folder), f"{bucket}/data")
    there.check_unchanged()
    (tmp_path / "here").mkdir()
    here.write([1, 2, 4], tmp_path / "here" / "selected")
    written = there.write([1, 2, 4], path_of(f"{bucket}/out") / "selected")
    assert sum(file.records for file in written) == 3
    found = download(f"{bucket}/out", tmp_path / "there")
    assert contents(found) == contents(tmp_path / "here")
    assert len(contents(found)) >= 1


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_changed_file_is_copied_again(bucket, tmp_path):
    write_json(tmp_path)
    upload(tmp_path, bucket)
    first = open_pool(f"{bucket}/pool.json")
    store().pipe_file(f"{bucket}/pool.json", json.dumps([record(9)]).encode())
    second = open_pool(f"{bucket}/pool.json")
    assert (len(first), len(second)) == (ROWS, 1)
    assert first.fingerprint() != second.fingerprint()


def test_saved_folders_are_copied_again_where_one_of_their_files_changed(bucket, tmp_path):
    name = write_saved(tmp_path)
    upload(tmp_path, bucket)
    (first,) = copies_of_data(f"{bucket}/{name}")[1]
    assert copies_of_data(f"{bucket}/{name}")[1] == [first]
    (state,) = (key for key in names_in(bucket) if key.endswith("state.json"))
    store().pipe_file(f"{bucket}/{state}", store().cat_file(f"{bucket}/{state}") + b"\n")
    (second,) = copies_of_data(f"{bucket}/{name}")[1]
    assert second.path != first.path
    assert not first.path.exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.json", "data file does not exist: {bucket}/none.json"),
        ("pictures", "data file is a folder: {bucket}/pictures"),
        ("shard-{0..1}.json", "data file does not exist: {bucket}/shard-0.json"),
        ("broken.json", "data file is broken: {bucket}/broken.json"),
        ("*.parquet", "no file matches: {bucket}/*.parquet"),
        ("splits", "several splits, test, train: {bucket}/splits"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_url(name, told, bucket):
    for key in ("pictures/a.png", "splits/train-0.parquet", "splits/test-0.parquet"):
        store().pipe_file(f"{bucket}/{key}", b"x")
    store().pipe_file(f"{bucket}/broken.json", b'[{"a": 1}, {"b"]')
    with pytest.raises(DatasetError) as raised:
        open_pool(f"{bucket}/{name}")
    assert told.format(bucket=bucket) in str(raised.value)
    assert "/tmp" not in str(raised.value)


def test_vectors_are_read_from_a_copy(bucket, tmp_path):
    X = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "X.npy", X)
    upload(tmp_path, bucket)
    vectors = open_vectors(f"{bucket}/X.npy")
    assert (vectors.rows, vectors.hidden, vectors.path.name) == (4, 3, "X.npy")
    assert vectors.fingerprint() == open_vectors(tmp_path / "X.npy").fingerprint()
    with pytest.raises(DatasetError, match=rf"does not exist: {bucket}/Y\.npy"):
        open_vectors(f"{bucket}/Y.npy")
    store().pipe_file(f"{bucket}/X.txt", b"x")
    with pytest.raises(OptionError, match=rf"{bucket}/X\.txt"):
        open_vectors(f"{bucket}/X.txt")


def test_image_folders_are_looked_for(bucket, tmp_path):
    write_json(tmp_path)
    store().pipe_file(f"{bucket}/pictures/a.png", b"x")
    pool = open_pool(tmp_path / "pool.json", images=f"{bucket}/pictures/")
    assert pool.images == f"{bucket}/pictures"
    (sample,) = pool.read(0, 1)
    assert sample.images[0].path == f"{bucket}/pictures/pictures/0.png"
    assert pool.images_found() == (f"{bucket}/pictures/pictures/0.png", ROWS)
    with pytest.raises(DatasetError, match="image folder does not exist, or nothing lies in it"):
        open_pool(tmp_path / "pool.json", images=f"{bucket}/none")

"""Compressed JSON is read as the plain file is, written back compressed, and leaves nothing behind."""

import errno
import gzip
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from scalselect.dataset import gzip_records
from scalselect.dataset.gzip_records import GzipRecordFile, begins_as_gzip
from scalselect.dataset.opening import open_pool
from scalselect.dataset.selected_writer import write_selected
from scalselect.errors import DataChangedError, DatasetError

RECORDS = [b'{"id": "007", "conversations": []}', '{"id":7.0 , "ä":"日本"}'.encode(), b'{"a":\t1e400}', b'{"b":[ ]}']
ARRAY = b"[" + b" ,\n".join(RECORDS) + b"]"
LINES = b"\r\n".join(RECORDS)


@pytest.fixture(autouse=True)
def unpacked(tmp_path, monkeypatch):
    """Return the folder of temporary files, empty at first."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(tmp_path, content, name="pool.data"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize(("content", "container"), [(ARRAY, "json.gz"), (LINES, "jsonl.gz")])
def test_records_are_those_of_the_plain_file(tmp_path, unpacked, content, container):
    path = packed(tmp_path, content)
    pool = open_pool(path, format="llava")
    assert (pool.container, len(pool)) == (container, 4)
    assert [pool.raw(row) for row in range(4)] == RECORDS
    assert pool.fingerprint() | {"records": 4} == pool.fingerprint()
    assert pool.fingerprint()["bytes"] == path.stat().st_size
    assert "gzip-compressed" in pool.describe()
    plain = tmp_path / "plain"
    plain.write_bytes(content)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (written,) = write_selected(pool, [1, 3], tmp_path / "a")
    (of_plain,) = write_selected(open_pool(plain, format="llava"), [1, 3], tmp_path / "b")
    assert written.name == f"selected.{container}"
    assert gzip.decompress(written.read_bytes()) == of_plain.read_bytes()
    first = written.read_bytes()
    write_selected(pool, [1, 3], tmp_path / "a")
    assert written.read_bytes() == first  # no time and no name in it
    assert len(list(unpacked.iterdir())) == 1
    del pool
    assert list(unpacked.iterdir()) == []


def test_subset_is_read_by_datasets(tmp_path):
    from datasets import load_dataset

    records = [{"id": f"r{i}", "conversations": [{"from": "human", "value": str(i)}]} for i in range(9)]
    path = packed(tmp_path, "\n".join(map(json.dumps, records)).encode(), "pool.jsonl.gz")
    (written,) = write_selected(open_pool(path), [0, 4, 8], tmp_path)
    back = load_dataset("json", data_files=str(written), split="train", cache_dir=str(tmp_path / "cache"))
    assert back["id"] == ["r0", "r4", "r8"]


def test_members_one_after_the_other_are_one_file(tmp_path):
    path = tmp_path / "pool.jsonl.gz"
    path.write_bytes(gzip.compress(LINES + b"\n") + gzip.compress(b'{"last":1}\n'))
    assert len(GzipRecordFile(path)) == 5
    assert open_pool(path, format="llava").source == "pool"


@pytest.mark.parametrize("spoil", ["cut", "checksum", "data", "behind"])
def test_damaged_file_is_refused_and_nothing_stays(tmp_path, unpacked, spoil):
    content = bytearray(gzip.compress(os.urandom(5000).hex().encode()))
    if spoil == "cut":
        del content[len(content) // 2 :]
    elif spoil == "behind":
        content += b"more"
    else:
        content[-6 if spoil == "checksum" else 500] ^= 0xFF
    path = tmp_path / "pool.json.gz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"is damaged, it cannot be unpacked: {path}") as caught:
        GzipRecordFile(path)
    assert ("cut short" in str(caught.value)) == (spoil == "cut")
    assert list(unpacked.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"id,image\n", "neither a JSON"),
        (b"[{},", "is broken"),
        (gzip.compress(b"[]", mtime=0), "unpack it"),
    ],
)
def test_what_is_inside_is_refused_under_the_name_of_the_file(tmp_path, unpacked, content, words):
    path = packed(tmp_path, content)
    with pytest.raises(DatasetError, match=words) as caught:
        GzipRecordFile(path)
    assert str(path) in str(caught.value)
    assert str(unpacked) not in str(caught.value)
    assert list(unpacked.iterdir()) == []


def test_compressed_tar_is_named(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.json"))
    with pytest.raises(DatasetError, match=r"is a gzip-compressed tar: .*unpack it to a \.tar first"):
        GzipRecordFile(packed(tmp_path, content.getvalue(), "pool.tar.gz"))


def test_full_disk_is_one_message(tmp_path, unpacked, monkeypatch):
    path = packed(tmp_path, ARRAY)
    monkeypatch.setattr(gzip_records, "_copy_unpacked", full_disk)
    with pytest.raises(DatasetError, match=rf"no room in {unpacked} to unpack {path} .*TMPDIR"):
        GzipRecordFile(path)
    assert list(unpacked.iterdir()) == []


def full_disk(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_change_of_the_compressed_file_is_seen(tmp_path):
    path = packed(tmp_path, ARRAY)
    records = GzipRecordFile(path)
    records.check_unchanged()
    packed(tmp_path, LINES)
    with pytest.raises(DataChangedError, match="has changed"):
        records.check_unchanged()
    assert records.raw(1) == RECORDS[1]


def read_in_child(records, answers):
    answers.put((records.raw(2), len(records)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it_and_do_not_delete_it(tmp_path, unpacked, method):
    records = GzipRecordFile(packed(tmp_path, ARRAY))
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=read_in_child, args=(records, answers))
    child.start()
    assert answers.get(timeout=60) == (RECORDS[2], 4)
    child.join()
    copy = pickle.loads(pickle.dumps(records))
    assert copy.raw(0) == RECORDS[0]
    del copy
    assert records.raw(3) == RECORDS[3]
    assert len(list(unpacked.iterdir())) == 1


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "import os, sys; os.fork() or sys.exit()"])
def test_temporary_file_goes_with_the_process(tmp_path, unpacked, ending):
    code = f"""
from pathlib import Path
from scalselect.dataset.gzip_records import GzipRecordFile
records = GzipRecordFile(Path({str(packed(tmp_path, ARRAY))!r}))
assert len(list(Path({str(unpacked)!r}).iterdir())) == 1
{ending}
"""
    environment = {**os.environ, "TMPDIR": str(unpacked)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert list(unpacked.iterdir()) == []


def test_compression_is_recognised_by_looking(tmp_path):
    assert begins_as_gzip(packed(tmp_path, b"[]", "pool.json"))
    (tmp_path / "plain.gz").write_bytes(b"[]")
    assert not begins_as_gzip(tmp_path / "plain.gz")
    assert not begins_as_gzip(tmp_path)
    assert not begins_as_gzip(Path("a\0b"))

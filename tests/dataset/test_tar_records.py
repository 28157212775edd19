"""Samples of WebDataset tars are records with images beside them; a chosen part is read by the readers of tars."""

import hashlib
import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path

import pytest

from scalselect.dataset import tar_records
from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_fields import record_fields
from scalselect.dataset.tar_records import open_tars
from scalselect.errors import DataChangedError, DatasetError
from tars import png, read_back, record, samples, write_members, write_tar


@pytest.fixture
def shards(tmp_path):
    counts = (4, 0, 3)
    paths = [tmp_path / f"shard-{number:06d}.tar" for number in range(3)]
    for path, count, start in zip(paths, counts, (0, 4, 4), strict=True):
        write_tar(path, samples(count, start))
    return paths


def test_records_have_key_and_images_and_every_byte_of_their_json(tmp_path):
    written = samples(3)
    written[1]["json"] = '{ "a":1.0,"ä":"\\u00e9 é" , "id":"007","big":123456789012345678901234567890 }\n'.encode()
    records = open_tars([write_tar(tmp_path / "pool.tar", written)])
    assert (len(records), records.container, records.title) == (3, "tar", "a WebDataset tar")
    first = json.loads(records.raw(0))
    assert first["images"] == [{"bytes": {"embedded": 0}, "path": "000000.png"}]
    assert first["id"] == "000000"
    assert records.raw(0).startswith(written[0]["json"][:-1])
    pictures = b', "images": [{"bytes": {"embedded": 0}, "path": "000001.png"}]}'
    assert records.raw(1) == written[1]["json"].strip()[:-1] + pictures
    assert [image["path"] for image in json.loads(records.raw(2))["images"]] == ["000002.0.png", "000002.1.png"]
    assert [records.embedded(2, number) for number in range(3)] == [png(2), png(102), None]
    assert records.embedded(0, 0) == png(0)
    assert records.embedded(0, -1) is None
    assert [records.fault(row) for row in range(3)] == [None] * 3
    assert records.first_fault() is None


def test_pool_opens_a_tar_by_looking(tmp_path):
    pool = open_pool(write_tar(tmp_path / "pool.data", samples(4)))
    assert (pool.container, pool.format, len(pool)) == ("tar", "llava", 4)
    assert pool.describe() == "LLaVA records (`conversations`, `image`) in a WebDataset tar: 4 rows"
    assert [json.loads(pool.raw(row))["id"] for row in range(4)] == [f"{row:06d}" for row in range(4)]


def test_several_tars_are_one_pool_and_become_as_many(tmp_path, shards):
    records = open_tars(shards)
    assert len(records) == 7
    assert [json.loads(records.raw(row))["id"] for row in range(7)] == [f"{row:06d}" for row in range(7)]
    lines = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_size}\n" for p in shards)
    assert records.fingerprint() == {
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "bytes": sum(path.stat().st_size for path in shards),
        "records": 7,
    }
    written = records.write([1, 2, 6], tmp_path / "selected")
    assert [(file.path, file.records) for file in written] == [
        (tmp_path / "selected" / path.name, count) for path, count in zip(shards, (2, 0, 1), strict=True)
    ]
    everything = read_back(shards)
    assert read_back([file.path for file in written]) == [everything[row] for row in (1, 2, 6)]
    assert (tmp_path / "selected" / shards[1].name).read_bytes() == bytes(tarfile.RECORDSIZE)


def test_folder_of_tars_is_a_data_set(tmp_path, shards):
    pool = open_pool(tmp_path)
    assert (pool.container, len(pool), pool.source) == ("tar", 7, tmp_path.name)
    shards[2].rename(tmp_path / "val-0.tar")
    shards[0].rename(tmp_path / "train-0.tar")
    with pytest.raises(DatasetError, match="several splits, train, val"):
        open_pool(tmp_path)


def test_one_tar_of_every_row_is_the_tar_itself(tmp_path):
    path = write_tar(tmp_path / "pool.tar", samples(6))
    records = open_tars([path])
    assert records.fingerprint()["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (written,) = records.write(range(6), tmp_path / "selected")
    assert written.path == tmp_path / "selected.tar"
    assert written.path.read_bytes() == path.read_bytes()


def test_subset_is_read_by_datasets(tmp_path):
    from datasets import load_dataset

    path = write_tar(tmp_path / "pool.tar", [sample for sample in samples(12) if "png" in sample])
    (written,) = open_tars([path]).write([0, 3, 5], tmp_path / "selected")
    options = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    back = load_dataset("webdataset", data_files=str(written.path), **options)
    whole = load_dataset("webdataset", data_files=str(path), **options)
    assert back["__key__"] == [whole["__key__"][row] for row in (0, 3, 5)] == ["000000", "000004", "000007"]
    assert back["json"] == [whole["json"][row] for row in (0, 3, 5)]
    assert [image.getpixel((0, 0)) for image in back["png"]] == [(0, 7, 200), (4, 7, 200), (7, 7, 200)]


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_long_names_travel_with_their_members(tmp_path, tar_format):
    long = "x" * 80 + "/" + "y" * 90 + ("" if tar_format == tarfile.USTAR_FORMAT else "日本" * 30)
    members = [(f"{long}{n}.{kind}", b"{}" if kind == "json" else png(n)) for n in range(4) for kind in ("json", "png")]
    path = write_members(tmp_path / "pool.tar", members, tar_format)
    (written,) = open_tars([path]).write([1, 3], tmp_path / "selected")
    assert read_back(written.path) == [read_back(path)[row] for row in (1, 3)]
    with tarfile.open(path) as before, tarfile.open(written.path) as after:
        chosen = [member.get_info() for member in before if member.name.split(".")[0].endswith(("1", "3"))]
        assert [member.get_info() for member in after] == chosen


def test_headers_for_all_come_along(tmp_path):
    path = tmp_path / "pool.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "made by hand"}) as archive:
        for number in range(3):
            archive.addfile(tarfile.TarInfo(f"{number}.json"))
    (written,) = open_tars([path]).write([2], tmp_path / "selected")
    with tarfile.open(written.path) as archive:
        assert archive.pax_headers["comment"] == "made by hand"
        assert archive.getnames() == ["2.json"]


def test_tars_of_the_same_name_keep_their_folders(tmp_path):
    paths = [tmp_path / folder / "shard.tar" for folder in ("a", "b/c")]
    for path in paths:
        path.parent.mkdir(parents=True)
        write_tar(path, samples(1))
    written = open_tars(paths).write([1], tmp_path / "selected")
    assert [file.path.relative_to(tmp_path / "selected").as_posix() for file in written] == [
        "a/shard.tar",
        "b/c/shard.tar",
    ]


def test_changed_tar_is_noticed(tmp_path, shards):
    records = open_tars(shards)
    frozen = pickle.dumps(records)
    assert pickle.loads(frozen).raw(5) == records.raw(5)
    records.check_unchanged()
    write_tar(shards[2], samples(1))
    for call in (
        records.check_unchanged,
        lambda: pickle.loads(frozen).raw(5),
        lambda: records.write([5], tmp_path / "s"),
    ):
        with pytest.raises(DataChangedError, match="shard-000002"):
            call()
    assert json.loads(records.raw(0))["id"] == "000000"


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read_all(records, answers):
    answers.put([records.raw(row) for row in range(len(records))])


def test_forked_process_reads_and_many_tars_need_few_open_files(shards, monkeypatch):
    monkeypatch.setattr(tar_records, "_KEPT_OPEN", 2)
    before = open_files()
    records = open_tars(shards)
    everything = [records.raw(row) for row in range(7)]
    assert open_files() == before
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=read_all, args=(records, answers))
    child.start()
    assert answers.get(timeout=60) == everything
    child.join()


def test_bad_json_members_are_rows(tmp_path):
    texts = [b"", b"no json", b"[1]", b'{"a":"\xff"}', b"\xef\xbb\xbf{}\n", json.dumps(record(1, 0)).encode()]
    members = [(f"{number}.json", text) for number, text in enumerate(texts)]
    pool = open_pool(write_members(tmp_path / "pool.tar", members))
    reasons = [getattr(row, "reason", None) for row in pool.read(0, 6)]
    assert reasons == ["invalid_record"] * 4 + ["no_usable_turn", None]
    assert [row.identity.id for row in pool.read(4, 6)] == ["4", "5"]
    assert list(record_fields(pool.raw(4))) == ["id"]


def test_images_and_other_media_reach_the_pool(tmp_path):
    written = samples(3)
    written[1]["mp4"] = b"a film"
    pool = open_pool(write_tar(tmp_path / "pool.tar", written))
    first, second, third = pool.read(0, 3)
    assert (second.reason, second.detail) == ("unsupported_content", "the record has something under `videos`")
    assert [image.text for image in third.images] == ["000002.0.png", "000002.1.png"]
    assert [pool.embedded_image(image) for image in (*first.images, *third.images)] == [png(0), png(2), png(102)]


def test_nothing_but_empty_tars_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [])
    with pytest.raises(DatasetError, match=rf"data hold no record: {path}$"):
        open_tars([path])
    with pytest.raises(DatasetError, match=rf"no record: {path}, .*b\.tar"):
        open_tars([path, write_members(tmp_path / "b.tar", [("README", b"")])])
    with pytest.raises(DatasetError, match="does not exist"):
        open_tars([tmp_path / "c.tar"])


def test_tar_of_captions_says_what_is_missing(tmp_path):
    path = write_members(tmp_path / "pool.tar", [("a/1.txt", b"a caption"), ("a/1.jpg", b"")])
    with pytest.raises(DatasetError, match=r"sample `a/1` has no `\.json` member, only `\.txt`, `\.jpg`"):
        open_pool(path)


def test_what_macos_puts_beside_files_is_passed_over(tmp_path):
    (tmp_path / "out").mkdir()
    members = []
    for number in range(3):
        for name, content in (
            (f"d/{number}.json", json.dumps(record(number)).encode()),
            (f"d/{number}.png", png(number)),
        ):
            folder, _, base = name.rpartition("/")
            members += [(f"{folder}/._{base}", b"attributes"), (name, content)]
    records = open_tars([write_members(tmp_path / "pool.tar", [("._d", b"x"), *members])])
    assert [json.loads(records.raw(row))["id"] for row in range(len(records))] == ["d/0", "d/1", "d/2"]
    assert [records.embedded(row, 0) for row in range(3)] == [png(number) for number in range(3)]
    (written,) = records.write([0, 2], tmp_path / "out" / "selected")
    assert [sample["__key__"] for sample in read_back(written.path)] == ["d/0", "d/2"]


def test_other_hidden_members_of_a_folder_are_a_row_without_a_record(tmp_path):
    members = [
        ("x/.hidden", b"x"),
        (".hidden", b"x"),
        ("x/a.json", json.dumps(record(1)).encode()),
        ("x/a.png", png(1)),
    ]
    path = write_members(tmp_path / "pool.tar", members)
    records = open_tars([path])
    assert [sample["__key__"] for sample in read_back(path)] == ["x/", "x/a"]
    assert len(records) == 2
    assert "json" in records.fault(0)
    assert records.fault(1) is None

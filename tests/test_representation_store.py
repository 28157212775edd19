"""A shard is complete or absent, comes back as it was given, and damage to it is noticed and named."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from scalselect import representation_store
from scalselect.errors import DamagedFileError
from scalselect.records import Reason, RowIdentity, RowRecord
from scalselect.representation_store import RepresentationStore
from scalselect.row_tables import ROWS_SCHEMA, table_bytes, table_from_bytes
from small_shards import FACTS, identity, mixed_shard, scored, skipped

SUFFIXES = (".safetensors", ".rows.parquet")


@pytest.fixture
def store(tmp_path):
    return RepresentationStore(tmp_path / "representations")


def publish(store, shard=0, start=0):
    return store.publish(shard, *mixed_shard(start), FACTS)


def files_of(store):
    return {path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file()}


def test_shard_comes_back_as_it_was_given(store):
    span, records, vectors = mixed_shard(5)
    assert not store.is_published(1)
    report = store.publish(1, span, records, vectors, FACTS)
    assert store.is_published(1)
    assert not store.is_published(0)
    rows, representations = store.representations(1)
    assert rows.dtype == np.int64
    assert rows.tolist() == [5, 7, 9]
    assert representations.dtype == np.float32
    assert representations.tobytes() == vectors.tobytes()
    assert store.report(1) == report
    assert (report.shard, report.start, report.stop) == (1, 5, 10)
    assert report.counts == {"scored": 3, "skipped": 1, "text_only": 1}
    assert report.reasons == {"image_missing": 1}
    assert report.seconds.pop("write") >= 0
    assert {name: getattr(report, name) for name in FACTS} == FACTS
    stem = "shard-0000001"
    assert files_of(store) == {f"{stem}.json", *(stem + suffix for suffix in SUFFIXES)}
    assert set(report.files) == {stem + suffix for suffix in SUFFIXES}
    for name, facts in report.files.items():
        assert facts["bytes"] == (store.folder / name).stat().st_size


def test_every_field_of_a_row_comes_back(store):
    record = RowRecord(
        identity=RowIdentity(0, "a source", "an id", "string"),
        status="scored",
        reason=None,
        detail=None,
        turns=4,
        images=2,
        image_sha256=("aa", "bb"),
        image_bytes=(2**40, 7),
        text_sha256="cc",
        tokens=700,
        vision_tokens=576,
        kept_tokens=31,
        cut_margin=0.1 + 0.2,
        uniform=True,
        truncated=True,
        escaped=3,
        images_in_front=True,
        exif_rotated=True,
        alpha=True,
    )
    bare = RowRecord(identity=identity(1), status="skipped", reason=Reason.TOO_LONG, detail="300 tokens, 200 allowed")
    store.publish(0, range(2), [record, bare], np.zeros((1, 3), dtype=np.float32), FACTS)
    first, second = store.rows(0).to_pylist()
    assert store.rows(0).schema == ROWS_SCHEMA
    assert first == {
        "row": 0,
        "source": "a source",
        "id": "an id",
        "id_type": "string",
        "status": "scored",
        "reason": None,
        "detail": None,
        "turns": 4,
        "images": 2,
        "image_sha256": ["aa", "bb"],
        "image_bytes": [2**40, 7],
        "text_sha256": "cc",
        "tokens": 700,
        "vision_tokens": 576,
        "kept_tokens": 31,
        "cut_margin": 0.1 + 0.2,
        "uniform": True,
        "truncated": True,
        "escaped": 3,
        "images_in_front": True,
        "exif_rotated": True,
        "alpha": True,
    }
    assert (second["status"], second["reason"], second["detail"]) == (
        "skipped",
        "too_long",
        "300 tokens, 200 allowed",
    )
    assert (second["tokens"], second["cut_margin"], second["image_sha256"]) == (None, None, [])


def test_a_shard_without_scored_rows(store):
    records = [skipped(0), skipped(1, Reason.TOO_LONG)]
    report = store.publish(0, range(2), records, np.empty((0, 8), dtype=np.float32), FACTS)
    rows, representations = store.representations(0)
    assert (rows.shape, representations.shape) == ((0,), (0, 8))
    assert report.reasons == {"image_missing": 1, "too_long": 1}
    assert list(store.blocks(range(1))) == []


def test_vectors_that_do_not_lie_in_one_piece(store):
    span, records, vectors = mixed_shard()
    store.publish(0, span, records, np.asfortranarray(vectors), FACTS)
    assert store.representations(0)[1].tolist() == vectors.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_keep_their_number_type(store, dtype):
    span, records, vectors = mixed_shard()
    vectors = vectors.astype(dtype) + dtype(1e-12)
    store.publish(0, span, records, vectors, FACTS, instruction_representations=vectors * dtype(3))
    assert store.representations(0)[1].dtype == dtype
    assert store.representations(0)[1].tobytes() == vectors.tobytes()
    assert store.instruction_representations(0).tobytes() == (vectors * dtype(3)).tobytes()


def test_the_report_is_written_last(store, monkeypatch):
    written = []

    def publish_until_report(path, content, publish_bytes=representation_store.publish_bytes):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        written.append(path.name)
        publish_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(representation_store, "publish_bytes", publish_until_report)
        with pytest.raises(KeyboardInterrupt):
            publish(store)
    assert written == ["shard-0000000" + suffix for suffix in SUFFIXES]
    assert not store.is_published(0)
    publish(store)
    assert store.is_published(0)
    assert store.representations(0)[0].tolist() == [0, 2, 4]


@pytest.mark.parametrize("stops_at", [0, 1])
def test_a_shard_that_stopped_between_files_is_not_published(store, monkeypatch, stops_at):
    calls = []

    def publish_some(path, content, publish_bytes=representation_store.publish_bytes):
        if len(calls) == stops_at:
            raise OSError(28, "No space left on device", str(path))
        calls.append(path)
        publish_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(representation_store, "publish_bytes", publish_some)
        with pytest.raises(OSError, match="No space left"):
            publish(store)
    assert not store.is_published(0)
    publish(store)
    assert store.rows(0).num_rows == 5


@pytest.mark.parametrize(
    "rows", [[0, 1, 2, 3], [0, 1, 2, 4, 3], [0, 1, 2, 2, 3], [0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5], []]
)
def test_rows_missing_repeated_or_out_of_order_are_refused(store, rows):
    records = [scored(row) for row in rows]
    with pytest.raises(ValueError, match=r"shard 0 needs one record for every one of its 5 rows, in order"):
        store.publish(0, range(5), records, np.zeros((len(rows), 2), dtype=np.float32), FACTS)
    assert not store.folder.exists()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_as_many_vectors_as_scored_rows_or_none_are_written(store, count):
    span, records, _ = mixed_shard()
    with pytest.raises(ValueError, match=f"shard 0 has 3 scored rows but {count} representations"):
        store.publish(0, span, records, np.zeros((count, 8), dtype=np.float32), FACTS)
    assert not store.folder.exists()


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def read(store, suffix):
    return store.representations(0) if suffix == ".safetensors" else store.rows(0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, empty])
def test_damage_is_noticed_and_the_remedy_works(store, suffix, damage):
    publish(store)
    path = store.folder / f"shard-0000000{suffix}"
    damage(path)
    with pytest.raises(DamagedFileError, match=f"shard file is not what was published: {path}") as raised:
        read(store, suffix)
    report = store.folder / "shard-0000000.json"
    assert f"delete {report}, then repeat the `scalselect run`" in str(raised.value)
    report.unlink()
    assert not store.is_published(0)
    publish(store)
    read(store, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_named_with_the_remedy(store, suffix):
    publish(store)
    path = store.folder / f"shard-0000000{suffix}"
    path.unlink()
    with pytest.raises(DamagedFileError, match=rf"file is missing: {path}; delete .*shard-0000000\.json, then repeat"):
        read(store, suffix)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shard": 0}', b"\xff"])
def test_a_damaged_report_is_named_with_the_remedy(store, content):
    publish(store)
    path = store.folder / "shard-0000000.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"shard report cannot be read: {path} .*; delete {path}, then repeat"):
        store.report(0)
    with pytest.raises(DamagedFileError, match="shard report cannot be read"):
        store.representations(0)


def test_equal_shards_are_equal_files(tmp_path):
    contents = []
    for name in ("one", "two"):
        store = RepresentationStore(tmp_path / name)
        publish(store)
        publish(store)  # and publishing again changes nothing
        contents.append({file: (store.folder / file).read_bytes() for file in files_of(store)})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3


def test_missing_shards_are_counted_by_listing(store):
    """Whatever number a run.json tells of: 10^12 files are not looked for one by one."""
    assert store.files.missing(range(3)) == (3, 0)
    for shard in (0, 1, 3, 10_000):
        publish(store, shard)
    store.files.path(2, ".rows.parquet").touch()  # of one that stopped on the way
    assert store.files.missing(range(2)) == (0, None)
    assert store.files.missing(range(5)) == (2, 2)
    assert store.files.missing(range(10_000, 10_001)) == (0, None)
    assert store.files.missing(range(10**12)) == (10**12 - 4, 2)


def test_further_ten_thousands_lie_in_folders_of_their_own(store):
    publish(store, shard=9_999)
    publish(store, shard=10_000, start=5)
    publish(store, shard=12_345, start=10)
    names = {file for file in files_of(store) if file.endswith(".json")}
    assert names == {"shard-0009999.json", "00001/shard-0010000.json", "00001/shard-0012345.json"}
    assert store.is_published(12_345)
    assert store.representations(12_345)[0].tolist() == [10, 12, 14]
    assert store.rows(12_345).num_rows == 5


ODD_IDS = [
    (None, "absent"),
    ("", "string"),
    ("007", "string"),
    ("a\x00b", "string"),
    ("🦜 日本", "string"),
    ("line\nfeed", "string"),
    ('"\\ud800"', "string"),  # half a surrogate pair stays as its JSON text
    ("1" * 400, "number"),
    ("[1,  2]", "other"),
    ("null", "null"),
]


def test_odd_ids_come_back(store):
    records = [replace(scored(row), identity=identity(row, *odd)) for row, odd in enumerate(ODD_IDS)]
    store.publish(0, range(len(records)), records, np.zeros((len(records), 2), dtype=np.float32), FACTS)
    table = store.rows(0, ["id", "id_type"])
    assert table.column_names == ["id", "id_type"]
    assert list(zip(table["id"].to_pylist(), table["id_type"].to_pylist(), strict=True)) == ODD_IDS
    plain = pq.read_table(store.folder / "shard-0000000.rows.parquet")  # and by any other reader of Parquet
    assert plain["id"].to_pylist() == [id_ for id_, _ in ODD_IDS]


def test_all_rows_and_blocks_go_in_the_order_of_the_shards(store):
    publish(store, shard=1, start=5)
    publish(store, shard=0, start=0)
    store.publish(2, range(10, 11), [skipped(10)], np.empty((0, 8), dtype=np.float32), FACTS)
    table = store.all_rows(range(3), ["row", "status"])
    assert table["row"].to_pylist() == list(range(11))
    assert table.column_names == ["row", "status"]
    assert [rows.tolist() for rows, _ in store.blocks(range(3))] == [[0, 2, 4], [5, 7, 9]]


def test_shards_in_image_order_are_read_in_pool_order(store):
    def shard(number, rows, vectors):
        records = [replace(scored(row), tokens=100 + row) for row in rows]
        places = range(3 * number, 3 * number + 3)
        return store.publish(number, places, records, vectors.astype(np.float32), FACTS, rows=rows)

    first = shard(0, [0, 2, 5], np.eye(3))
    shard(1, [1, 3, 4], 2 * np.eye(3))
    assert (first.start, first.stop) == (0, 3)
    assert store.representations(1)[0].tolist() == [1, 3, 4]
    table = store.all_rows(range(2), ["tokens"])
    assert table.to_pydict() == {"tokens": [100, 101, 102, 103, 104, 105]}
    with pytest.raises(ValueError, match="3 rows"):
        store.publish(2, range(6, 9), [skipped(6), skipped(8)], np.empty((0, 3)), FACTS, rows=[6, 8])


def test_digest_changes_with_every_files_content(store, tmp_path):
    publish(store, shard=0)
    publish(store, shard=1, start=5)
    before = store.digest(range(2))
    publish(store, shard=1, start=5)
    assert store.digest(range(2)) == before
    assert store.digest(range(1)) != before
    span, records, vectors = mixed_shard(5)
    store.publish(1, span, records, np.nextafter(vectors, np.float32(9)), FACTS)
    other_vectors = store.digest(range(2))
    store.publish(1, span, [replace(records[0], kept_tokens=3), *records[1:]], vectors, FACTS)
    other_rows = store.digest(range(2))
    assert len({before, other_vectors, other_rows}) == 3
    store.publish(1, span, records, vectors, {**FACTS, "seconds": {"model": 99.0}, "device": "cuda"})
    assert store.digest(range(2)) == before  # timings are no content


def test_report_is_json_that_other_scripts_can_read(store):
    publish(store)
    content = json.loads((store.folder / "shard-0000000.json").read_text(encoding="utf-8"))
    assert content["counts"] == {"scored": 3, "skipped": 1, "text_only": 1}
    assert content["seconds"].keys() == {"model", "write"}


def test_writing_is_timed_up_to_the_report(store, monkeypatch):
    clock = SimpleNamespace(now=10.0)

    def slow(path, content, publish_bytes=representation_store.publish_bytes):
        clock.now += 2.0
        publish_bytes(path, content)

    monkeypatch.setattr(representation_store, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(representation_store, "publish_bytes", slow)
    assert publish(store).seconds == store.report(0).seconds == {"model": 1.5, "write": 4.0}


def test_tables_survive_bytes():
    table = ROWS_SCHEMA.empty_table()
    assert table_from_bytes(table_bytes(table)).schema == ROWS_SCHEMA
    assert table_from_bytes(table_bytes(table), ["row"]).column_names == ["row"]

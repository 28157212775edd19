"""Rows of Parquet files are read as JSON without loss, and come out as a table with the same schema and metadata."""

import json
import multiprocessing
import pickle
from hashlib import sha256
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalselect.dataset.containers import open_records
from scalselect.dataset.parquet_records import open_parquet
from scalselect.errors import DataChangedError, DatasetError, SampleError
from tables import RECORDS, SCHEMA, conversation, expected, picture


def embedded(records, row):
    values = []
    while (content := records.embedded(row, len(values))) is not None:
        values.append(content)
    return values


@settings(max_examples=40)
@given(st.lists(RECORDS, min_size=1, max_size=6), st.data())
def test_round_trip_of_generated_rows(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("round")
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / "pool.parquet", row_group_size=data.draw(st.integers(1, 5)))
    records, _ = open_records(folder / "pool.parquet")
    for row, record in enumerate(rows):
        texts, contents = expected(record)
        assert json.loads(records.raw(row)) == texts
        assert list(json.loads(records.raw(row))) == SCHEMA.names
        assert embedded(records, row) == contents
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(rows))))))
    (written,) = records.write(chosen, folder / "selected")
    assert (written.path, written.records) == (folder / "selected.parquet", len(chosen))
    before, after = pq.read_table(folder / "pool.parquet"), pq.read_table(written.path)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.equals(before.take(pa.array(chosen, pa.int64())))


def image_pool(folder, images, rows, **options):
    """Write rows with one column of images by HF datasets, and return the file."""
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
            "image": images,
        }
    )
    dataset = datasets.Dataset.from_list(rows, features=features)
    dataset.to_parquet(folder / "pool.parquet", **options)
    return folder / "pool.parquet"


ONE, MANY = datasets.Image(), datasets.List(datasets.Image())
LAYOUTS = {
    "each row one": (ONE, [{"bytes": picture(n), "path": f"{n}.png"} for n in range(6)], False),
    "paths alone": (ONE, [{"bytes": None, "path": f"{n}.png"} for n in range(6)], False),
    "some rows none": (ONE, [None if n % 2 else {"bytes": picture(n), "path": None} for n in range(6)], False),
    "some by path": (ONE, [{"bytes": None if n == 3 else picture(n), "path": "a"} for n in range(6)], True),
    "lists": (MANY, [[{"bytes": picture(n), "path": None}] * (n % 3) for n in range(6)], False),
    "lists, null": (MANY, [None if n == 4 else [{"bytes": picture(n), "path": "b"}] * n for n in range(6)], False),
    "lists, some by path": (MANY, [[{"bytes": picture(0), "path": None}, {"bytes": None, "path": "c"}]] * 6, True),
    "plain bytes": (datasets.Value("binary"), [picture(n) for n in range(6)], False),
    "plain bytes, null": (datasets.Value("binary"), [picture(n) if n % 2 else None for n in range(6)], True),
    "lists of bytes": (datasets.List(datasets.Value("binary")), [[picture(n)] * 2 for n in range(6)], True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_images(tmp_path, monkeypatch, layout):
    images, values, reads_bytes = LAYOUTS[layout]
    rows = [{"id": f"{n:03}", "conversations": conversation(n), "image": value} for n, value in enumerate(values)]
    records, _ = open_records(image_pool(tmp_path, images, rows, batch_size=4))
    read = []
    opened = pq.ParquetFile.read_row_group

    def spy(file, group, columns=None, **options):
        read.extend(columns)
        return opened(file, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    found = [json.loads(records.raw(row)) for row in range(6)]
    assert [record["id"] for record in found] == [f"{n:03}" for n in range(6)]
    assert [record["conversations"] for record in found] == [conversation(n) for n in range(6)]
    assert any(name == "image" or name.endswith("bytes") for name in read) == reads_bytes
    for row, value in enumerate(values):
        listed = value if isinstance(value, list) else [value]
        contents = [image if isinstance(image, bytes) else image and image["bytes"] for image in listed or []]
        contents = [content for content in contents if content is not None]
        assert embedded(records, row) == contents
        told = found[row]["image"]
        told = told if isinstance(told, list) else [told]
        numbers = [image["bytes"]["embedded"] for image in told if image and image["bytes"]]
        assert numbers == list(range(len(contents)))
        paths = [image and image["path"] for image in told]
        assert paths == [image["path"] if isinstance(image, dict) else None for image in listed]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subset_is_read_by_datasets_as_the_whole_is(tmp_path, layout):
    images, values, _ = LAYOUTS[layout]
    rows = [{"id": str(n), "conversations": conversation(n), "image": value} for n, value in enumerate(values)]
    path = image_pool(tmp_path, images, rows, batch_size=4)
    records, _ = open_records(path)
    (written,) = records.write([1, 2, 5], tmp_path / "selected")
    whole, subset = (
        datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
        for file in (path, written.path)
    )
    assert subset.features == whole.features
    assert subset.with_format("arrow")[:].equals(whole.select([1, 2, 5]).with_format("arrow")[:])


def test_storing_of_columns_is_kept_and_row_groups_do_not_crumble(tmp_path):
    table = pa.table({"id": [str(n) for n in range(1000)], "raw": [bytes([n % 256]) * 50 for n in range(1000)]})
    path = tmp_path / "pool.parquet"
    pq.write_table(table, path, row_group_size=100, compression={"id": "zstd", "raw": "none"}, use_dictionary=["id"])
    records, _ = open_records(path)
    (written,) = records.write(range(0, 1000, 5), tmp_path / "selected")
    metadata = pq.read_metadata(written.path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [100, 100]
    columns = [metadata.row_group(0).column(number) for number in range(2)]
    assert [column.compression for column in columns] == ["ZSTD", "UNCOMPRESSED"]
    assert [column.has_dictionary_page for column in columns] == [True, False]


def shards(folder):
    folder.mkdir(exist_ok=True)
    for part in range(3):
        rows = [{"id": f"{part}-{n}", "conversations": conversation(n)} for n in range(4)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-{part:05}-of-00003.parquet")
    return folder


@pytest.mark.parametrize("given", ["", "train-*.parquet", "train-{00000..00002}-of-00003.parquet"])
def test_several_files_are_one_pool_and_stay_several(tmp_path, given):
    folder = shards(tmp_path / "data")
    records, location = open_records(folder / given)
    assert (location, records.title) == (str(folder / given), "3 Parquet files")
    ids = [json.loads(records.raw(row))["id"] for row in range(len(records))]
    assert ids == [f"{part}-{n}" for part in range(3) for n in range(4)]
    written = records.write([1, 3, 8], tmp_path / "selected")
    assert [(file.path.relative_to(tmp_path / "selected").as_posix(), file.records) for file in written] == [
        (f"train-{part:05}-of-00003.parquet", count) for part, count in enumerate([2, 0, 1])
    ]
    assert pq.read_table(tmp_path / "selected")["id"].to_pylist() == ["0-1", "0-3", "2-0"]


def test_files_of_the_same_name_in_several_folders_do_not_meet(tmp_path):
    for folder in ("de", "fr"):
        shards(tmp_path / folder)
    records, _ = open_records(tmp_path / "{fr,de}" / "train-00000*")
    written = records.write([0, 4], tmp_path / "selected")
    names = [file.path.relative_to(tmp_path / "selected").parts[0] for file in written]
    assert names == ["fr", "de"]


def test_repository_on_disk_and_several_splits(tmp_path):
    shards(tmp_path / "data")
    assert len(open_records(tmp_path)[0]) == 12
    (tmp_path / "data" / "train-00002-of-00003.parquet").rename(tmp_path / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(DatasetError, match=r"several splits, test, train: .*give one: `.*data/test\*\.parquet` or"):
        open_records(tmp_path)


def read_all(records):
    return [records.raw(row) for row in range(len(records))] + [records.embedded(0, 0)]


def _read_in_child(records, queue):
    queue.put(read_all(records))


def test_rows_are_read_after_a_fork_and_after_pickling(tmp_path):
    rows = [{"id": str(n), "image": picture(n)} for n in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet", row_group_size=3)
    records, _ = open_records(tmp_path / "pool.parquet")
    wanted = read_all(records)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(records, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [wanted, wanted]
    for child in children:
        child.join()
    assert read_all(pickle.loads(pickle.dumps(records))) == wanted


def test_fingerprint_is_that_of_the_bytes(tmp_path):
    folder = shards(tmp_path / "data")
    one, _ = open_records(folder / "train-00000-of-00003.parquet")
    several, _ = open_records(folder)
    assert one.fingerprint()["bytes"] == (folder / "train-00000-of-00003.parquet").stat().st_size
    assert (one.fingerprint()["records"], several.fingerprint()["records"]) == (4, 12)
    assert one.fingerprint()["sha256"] == sha256((folder / "train-00000-of-00003.parquet").read_bytes()).hexdigest()
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    lines = "".join(f"{sha256(content).hexdigest()} {len(content)}\n" for content in contents)
    assert several.fingerprint()["sha256"] == sha256(lines.encode()).hexdigest()


def test_change_is_noticed(tmp_path):
    folder = shards(tmp_path / "data")
    records, _ = open_records(folder)
    records.check_unchanged()
    pq.write_table(pa.table({"id": ["x"] * 4}), folder / "train-00001-of-00003.parquet")
    assert json.loads(records.raw(0))["id"] == "0-0"
    for call in (records.check_unchanged, lambda: records.raw(4), records.fingerprint):
        with pytest.raises(DataChangedError, match=r"train-00001-of-00003\.parquet"):
            call()
    (folder / "train-00002-of-00003.parquet").unlink()
    with pytest.raises(DataChangedError, match="No such file"):
        records.raw(8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "Parquet file cannot be read: .*pool.parquet"),
        (lambda content: content[:-8] + b"\xff\xff\xff\x7fPAR1", "Parquet file cannot be read"),
        (lambda _: b"PAR1", "Parquet file cannot be read"),
        (lambda _: b'{"id": 1}\n', "Parquet file cannot be read"),
        (lambda _: b"", "is empty"),
    ],
)
def test_damaged_file_is_refused(tmp_path, damage, message):
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"id": ["a", "b"]}), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message):
        open_records(path)


def test_damaged_row_group_spoils_its_rows_alone(tmp_path):
    path = tmp_path / "pool.parquet"
    ids = ["".join(sha256(bytes([n, part])).hexdigest() for part in range(20)) for n in range(4)]
    table = pa.table({"id": ids, "image": [picture(n) for n in range(4)]})
    pq.write_table(table, path, row_group_size=2, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    for column in range(2):
        chunk = pq.read_metadata(path).row_group(1).column(column)
        end = chunk.data_page_offset + chunk.total_compressed_size
        content[end - 60 : end] = bytes(60)
    path.write_bytes(content)
    records, _ = open_records(path)
    assert json.loads(records.raw(1))["id"] == ids[1]
    assert records.embedded(0, 0) == picture(0)
    assert records.raw(2) == b"null"
    assert records.fault(2).startswith("lies in a damaged row group: ")
    assert records.fault(0) is None
    assert records.first_fault().startswith("record 2 lies in a damaged row group: ")
    with pytest.raises(SampleError, match="image_unreadable: lies in a damaged row group: "):
        records.embedded(3, 0)


def test_text_that_is_no_utf8_spoils_its_row(tmp_path):
    text = pa.array([b"good", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": text}), tmp_path / "pool.parquet")
    records, _ = open_records(tmp_path / "pool.parquet")
    assert records.raw(0) == b'{"id": "good"}'
    assert records.raw(1) == b"null"
    assert "utf-8" in records.fault(1)


def test_table_without_rows_and_names_twice_are_refused(tmp_path):
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    with pytest.raises(DatasetError, match=r"hold no record: .*empty\.parquet"):
        open_parquet([tmp_path / "empty.parquet"])
    pq.write_table(pa.table([["a"], ["b"]], names=["id", "id"]), tmp_path / "twice.parquet")
    with pytest.raises(DatasetError, match="several fields `id`"):
        open_parquet([tmp_path / "twice.parquet"])


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    for part in range(30):
        pq.write_table(pa.table({"id": [part]}), tmp_path / f"part-{part:02}.parquet")
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = pq.ParquetFile.__init__
    most = []

    def count(*arguments, **options):
        most.append(len(list(Path("/proc/self/fd").iterdir())))
        opened(*arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "__init__", count)
    records, _ = open_records(tmp_path)
    assert [json.loads(records.raw(row))["id"] for row in range(30)] == list(range(30))
    assert len(most) == 60
    assert max(most) <= before + 2

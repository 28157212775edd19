"""A `datasets.Dataset` is read in its own order, images undecoded; the subset is Parquet with its features."""

import json
import pickle

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalselect.dataset.containers import open_records
from scalselect.dataset.data_sets import open_pools
from scalselect.errors import DataChangedError, DatasetError
from tables import RECORDS, conversation, expected, picture

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
        "image": datasets.Image(),
    }
)


def rows_of(number, start=0):
    return [
        {"id": f"{n:03}", "conversations": conversation(n), "image": {"bytes": picture(n), "path": None}}
        for n in range(start, start + number)
    ]


@pytest.fixture
def dataset():
    return datasets.Dataset.from_list(rows_of(10), features=FEATURES)


def ids(records):
    return [json.loads(records.raw(row))["id"] for row in range(len(records))]


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset,
        lambda dataset: dataset.select([7, 2, 2, 9]),
        lambda dataset: dataset.shuffle(seed=3),
        lambda dataset: dataset.filter(lambda row: row["id"] > "004"),
        lambda dataset: dataset.with_format("numpy", columns=["id"]),
        lambda dataset: datasets.concatenate_datasets([dataset.select([3]), dataset.select([1, 0])]),
        lambda dataset: dataset.rename_column("image", "picture").rename_column("picture", "image"),
    ],
)
def test_its_own_order_and_selection_hold(tmp_path, dataset, change):
    dataset = change(dataset)
    records, location = open_records(dataset)
    assert location is None
    wanted = list(dataset["id"])
    assert ids(records) == wanted
    assert ids(pickle.loads(pickle.dumps(records))) == wanted
    for row, identity in enumerate(wanted):
        assert records.embedded(row, 0) == picture(int(identity))
        assert records.embedded(row, 1) is None
    chosen = [0, len(wanted) - 1]
    (written,) = records.write(chosen, tmp_path / "selected")
    assert (written.path, written.records) == (tmp_path / "selected.parquet", 2)
    read = datasets.load_dataset(
        "parquet", data_files=str(written.path), split="train", cache_dir=str(tmp_path / "cache")
    )
    selected = dataset.with_format(None).select(chosen)
    assert read.features == dataset.features
    assert read.with_format("arrow")[:].equals(selected.with_format("arrow")[:].cast(read.data.schema))


@settings(max_examples=15)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_rows_of_every_type(rows):
    kinds = {"counts", "kind"}  # `datasets` has no maps, and class labels instead of dictionaries
    rows = [{name: value for name, value in row.items() if name not in kinds} for row in rows]
    image = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "number": datasets.Value("uint64"),
            "signed": datasets.Value("int64"),
            "share": datasets.Value("float64"),
            "price": datasets.Value("decimal128(38, 5)"),
            "day": datasets.Value("date32"),
            "at": datasets.Value("timestamp[us]"),
            "zoned": datasets.Value("timestamp[ms, tz=Europe/Paris]"),
            "took": datasets.Value("duration[us]"),
            "yes": datasets.Value("bool"),
            "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
            "nested": {"deep": [[datasets.Value("int64")]], "mask": datasets.Value("binary")},
            "image": image,
            "images": [image],
            "raw": datasets.Value("large_binary"),
        }
    )
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    records, _ = open_records(datasets.Dataset(table))
    for row, record in enumerate(rows):
        texts, contents = expected({**record, **dict.fromkeys(kinds)})
        assert json.loads(records.raw(row)) == {name: texts[name] for name in features}
        assert [records.embedded(row, number) for number in range(len(contents))] == contents


def test_fingerprint_is_that_of_the_rows(tmp_path, dataset):
    one = open_records(dataset)[0].fingerprint()
    dataset.to_parquet(tmp_path / "pool.parquet")
    again = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pool.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert open_records(again)[0].fingerprint() == one
    others = [
        dataset.select(range(9)),
        dataset.select([1, 0, *range(2, 10)]),
        datasets.Dataset.from_list([*rows_of(9), {**rows_of(10)[9], "image": {"bytes": picture(3), "path": None}}]),
    ]
    assert all(open_records(other)[0].fingerprint()["sha256"] != one["sha256"] for other in others)


def test_a_changed_cache_file_is_noticed(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "pool")
    records, _ = open_records(datasets.load_from_disk(tmp_path / "pool"))
    records.check_unchanged()
    (file,) = (tmp_path / "pool").glob("*.arrow")
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(DataChangedError):
        records.check_unchanged()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dataset: datasets.DatasetDict({"train": dataset}), r"are a DatasetDict: .*`data\[\"train\"\]`"),
        (lambda dataset: dataset.to_iterable_dataset(), "are a IterableDataset: its rows cannot be read twice"),
        (lambda dataset: dataset.select([]), "hold no record"),
    ],
)
def test_other_kinds_are_refused(dataset, change, message):
    with pytest.raises(DatasetError, match=message):
        open_pools(change(dataset))

"""A folder that `save_to_disk` wrote is read in order, and the chosen rows are one that `load_from_disk` reads."""

import json

import datasets
import pytest

from scalselect.dataset.containers import open_records
from scalselect.errors import DatasetError
from tables import conversation, picture

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
        "images": datasets.List(datasets.Image()),
    }
)


def dataset_of(rows):
    records = [
        {
            "id": f"{n:03}",
            "conversations": conversation(n),
            "images": [{"bytes": picture(n), "path": None}] * (n % 3),
        }
        for n in range(rows)
    ]
    return datasets.Dataset.from_list(records, features=FEATURES)


def arrow_of(dataset):
    return dataset.with_format("arrow")[:]


@pytest.mark.parametrize("files", [1, 3])
def test_saved_data_set(tmp_path, files):
    dataset = dataset_of(10)
    dataset.save_to_disk(tmp_path / "pool", num_shards=files)
    records, location = open_records(tmp_path / "pool")
    assert (records.container, location) == ("saved", str(tmp_path / "pool"))
    assert [json.loads(records.raw(row))["id"] for row in range(10)] == dataset["id"][:]
    assert records.embedded(5, 1) == picture(5)
    chosen = [0, 1, 2, 9]
    written = records.write(chosen, tmp_path / "selected")
    assert [file.path.name for file in written][-2:] == ["dataset_info.json", "state.json"]
    assert sum(file.records for file in written) == 4
    subset = datasets.load_from_disk(tmp_path / "selected")
    assert subset.features == dataset.features
    assert arrow_of(subset).equals(arrow_of(dataset.select(chosen)))
    assert subset[3]["images"] == []
    assert subset[2]["images"][0].size == (40, 30)
    assert subset._fingerprint != datasets.load_from_disk(tmp_path / "pool")._fingerprint


def test_one_file_without_chosen_rows_is_read_as_well(tmp_path):
    dataset_of(9).save_to_disk(tmp_path / "pool", num_shards=3)
    open_records(tmp_path / "pool")[0].write([8], tmp_path / "selected")
    assert datasets.load_from_disk(tmp_path / "selected")["id"][:] == ["008"]
    open_records(tmp_path / "pool")[0].write([], tmp_path / "selected")
    assert len(datasets.load_from_disk(tmp_path / "selected")) == 0


def test_order_of_a_selection_is_saved(tmp_path):
    dataset_of(6).select([4, 0, 2]).save_to_disk(tmp_path / "pool")
    records, _ = open_records(tmp_path / "pool")
    assert [json.loads(records.raw(row))["id"] for row in range(3)] == ["004", "000", "002"]


def test_numbers_of_the_split_are_those_of_the_subset(tmp_path):
    dataset_of(6).to_parquet(tmp_path / "pool.parquet")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pool.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    loaded.save_to_disk(tmp_path / "pool", num_shards=2)
    open_records(tmp_path / "pool")[0].write([1, 4, 5], tmp_path / "selected")
    before, after = (json.loads((tmp_path / name / "dataset_info.json").read_text()) for name in ("pool", "selected"))
    subset = datasets.load_from_disk(tmp_path / "selected")
    assert subset.info.splits["train"].num_examples == 3
    assert before["splits"]["train"]["num_examples"] == 6
    assert after["dataset_size"] == after["splits"]["train"]["num_bytes"]
    unchanged = {
        name: value for name, value in before.items() if name not in {"splits", "dataset_size", "size_in_bytes"}
    }
    assert unchanged.items() <= after.items()


def test_splits_are_named(tmp_path):
    datasets.DatasetDict({"train": dataset_of(2), "test": dataset_of(1)}).save_to_disk(tmp_path / "pool")
    with pytest.raises(DatasetError, match=r"holds splits of a saved data set: .*pool \(give `.*/train` or `.*/test`"):
        open_records(tmp_path / "pool")
    assert len(open_records(tmp_path / "pool" / "train")[0]) == 2


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, r"by indices: .*flatten_indices"),
        ({"_data_files": [{"filename": "data-1.arrow"}]}, r"does not exist: .*data-1\.arrow"),
        ({"_data_files": None}, "names no data files"),
        ({"_data_files": []}, "hold no record"),
    ],
)
def test_state_that_means_something_else_is_refused(tmp_path, state, message):
    dataset_of(2).save_to_disk(tmp_path / "pool")
    path = tmp_path / "pool" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | state))
    with pytest.raises(DatasetError, match=message):
        open_records(tmp_path / "pool")


def test_broken_state_is_refused(tmp_path):
    dataset_of(2).save_to_disk(tmp_path / "pool")
    (tmp_path / "pool" / "state.json").write_text("{")
    with pytest.raises(DatasetError, match=r"cannot be read: .*state\.json"):
        open_records(tmp_path / "pool")


@pytest.mark.parametrize("name", ["../pool/data-00000-of-00001.arrow", "/etc/hosts", "a/b.arrow", "", ".."])
def test_name_that_is_no_file_of_the_folder_is_refused(tmp_path, name):
    dataset_of(2).save_to_disk(tmp_path / "pool")
    state = tmp_path / "pool" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "_data_files": [{"filename": name}]}))
    with pytest.raises(DatasetError, match=r"names a file outside of its folder|is a folder|does not exist"):
        open_records(tmp_path / "pool")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("state.json", b"[" * 100_000, "cannot be read"),
        ("state.json", b'{"_data_files": 5}', "names no data files"),
        ("state.json", b'{"_data_files": ["a"]}', "names no data files"),
        ("state.json", b'{"_data_files": [{"filename": "a\\u0000"}]}', "does not exist"),
        ("dataset_info.json", b"\xff", "cannot be read"),
        ("dataset_dict.json", b'{"splits": 7}', "train"),
    ],
)
def test_malformed_description_is_refused(tmp_path, file, content, message):
    dataset_of(2).save_to_disk(tmp_path / "pool")
    (tmp_path / "pool" / file).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_records(tmp_path / "pool")


@pytest.mark.parametrize(
    "info",
    [{"splits": []}, {"splits": {"train": 4}}, {"splits": {"train": {"num_bytes": "x"}}, "dataset_size": "y"}, {}],
)
def test_odd_description_spoils_no_subset(tmp_path, info):
    dataset_of(3).save_to_disk(tmp_path / "pool")
    (tmp_path / "pool" / "dataset_info.json").write_text(json.dumps(info))
    state = tmp_path / "pool" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "_split": "train", "_fingerprint": "\ud800"}))
    open_records(tmp_path / "pool")[0].write([1], tmp_path / "selected")
    assert len(open_records(tmp_path / "selected")[0]) == 1

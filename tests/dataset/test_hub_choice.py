"""Of a repository's files those are the data that a path names, or those of the one train split there is."""

import pytest

from scalselect.dataset.hub_choice import data_files_of
from scalselect.dataset.hub_data import HubPlace, hub_place, is_hub_data
from scalselect.errors import DatasetError

TRAIN = [f"data/train-{n:05}-of-00003.parquet" for n in range(3)]
TEST = ["data/test-00000-of-00001.parquet"]
COMMIT = "c" * 40


def chosen(names, path=""):
    return data_files_of(sorted(names), path, "hf://datasets/o/n")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([*TRAIN, *TEST, "README.md"], TRAIN),
        (["train.jsonl", "test.jsonl", "images/a.jpg"], ["train.jsonl"]),
        (["llava.json", "dataset_infos.json", ".gitattributes"], ["llava.json"]),
        (["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"], None),
        (["shard-000001.tar", "shard-000000.tar", "README.md"], None),
        (["data/0000.parquet", "data/0001.parquet"], None),
        (["data-00000-of-00001.arrow", "state.json", "dataset_info.json"], ["data-00000-of-00001.arrow"]),
        (["pool.json.gz"], ["pool.json.gz"]),
        (["train-00000-of-00001-a09b74b3ef9c3b56.parquet"], None),
    ],
)
def test_data_of_a_whole_repository(names, wanted):
    wanted = wanted or sorted(name for name in names if "test" not in name and "README" not in name)
    assert chosen(names) == wanted


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["en/train-0.parquet", "en/train-1.parquet", "fr/train-0.parquet"], "en/train*.parquet, fr/train*.parquet"),
        (["llava_150k.json", "detail_23k.json"], "detail_23k.json, llava_150k.json"),
        (["train.json", "train.parquet"], "train.json, train.parquet"),
        (["test-0.parquet", "test-1.parquet"], "test*.parquet"),
    ],
)
def test_choices_are_listed_where_it_is_not_clear(names, told):
    with pytest.raises(DatasetError) as raised:
        chosen(names)
    assert f"(add one of these: {told})" in str(raised.value)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("data/test-00000-of-00001.parquet", TEST),
        ("data/train-*.parquet", TRAIN),
        ("data/train-*", TRAIN),
        ("data/train-{00002,00000,00001}-of-00003.parquet", [TRAIN[2], TRAIN[0], TRAIN[1]]),
        ("*/test-?????-of-*", TEST),
        ("data", TRAIN),
        ("odd[1].json", ["odd[1].json"]),
    ],
)
def test_a_path_means_its_files(path, wanted):
    assert chosen([*TRAIN, *TEST, "README.md", "odd[1].json"], path) == wanted


@pytest.mark.parametrize(
    ("names", "path", "message"),
    [
        (TRAIN, "data/trian-*.parquet", "no such file or folder"),
        (["pool.json"], "pol.json", "did you mean `pool.json`"),
        (["README.md", "a.jpg"], "", r"holds no data files: .* it has .*README\.md"),
        (TRAIN[:2], "", "lacks a file: .* has no data/train-00002-of-00003"),
        (TRAIN, "data/{train-00000,train-00000}*", "names a file more than once"),
        (TRAIN, "data/{train", "braces that are not closed"),
        (["subfolder/a.parquet"], "*.parquet", "no such file or folder"),
    ],
)
def test_what_is_not_there_is_told(names, path, message):
    with pytest.raises(DatasetError, match=message):
        chosen(names, path)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("hf://datasets/o/n", HubPlace("o/n", None, "")),
        ("hf://datasets/o/n/", HubPlace("o/n", None, "")),
        (f"hf://datasets/o/n@{COMMIT}/data/a.parquet", HubPlace("o/n", COMMIT, "data/a.parquet")),
        ("hf://datasets/o/n.v1@v1.0//./data", HubPlace("o/n.v1", "v1.0", "data")),
        ("hf://datasets/o/n@refs/convert/parquet/default", HubPlace("o/n", "refs/convert/parquet", "default")),
        ("hf://datasets/o/n@refs%2Fpr%2F1/a", HubPlace("o/n", "refs/pr/1", "a")),
    ],
)
def test_locations(location, place):
    assert is_hub_data(location)
    assert hub_place(location) == place


@pytest.mark.parametrize("location", ["hf://datasets/", "hf://datasets/o", "hf://datasets/o/n@", "hf://datasets/o@r/n"])
def test_locations_without_a_repository_are_refused(location):
    with pytest.raises(DatasetError, match=r"names no data set of a hub: .*wanted: hf://datasets/OWNER/NAME"):
        hub_place(location)


@pytest.mark.parametrize(
    "location", ["hf://owner/name", "s3://datasets/o/n", "datasets/o/n", None, ["hf://datasets/o/n"]]
)
def test_other_things_are_no_hub_data(location):
    assert not is_hub_data(location)

"""Which files of a folder are its data, and that none of them is passed over in silence."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset.data_folders import files_of_folder
from scalselect.dataset.opening import open_pool
from scalselect.errors import DatasetError

NO_DATA = ("README.md", "dataset_info.json", "dataset_infos.json", "state.json", "a.png", ".hidden.parquet", "LICENSE")


def folder_of(tmp_path, *names):
    for name in names:
        path = tmp_path / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "pool"


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather", "tar"])
@pytest.mark.parametrize("inside", ["", "data/"])
def test_files_that_are_no_data_do_not_matter(tmp_path, ending, inside):
    names = [f"{inside}b.{ending}", f"{inside}a.{ending}"]
    folder = folder_of(tmp_path, *names, *NO_DATA)
    assert files_of_folder(folder) == [folder / name for name in sorted(names)]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ("a.parquet", "b.arrow", "c.tar", "d.jsonl"),
            r"Parquet \(a\.parquet\), Arrow \(b\.arrow\), tar \(c\.tar\), JSON \(d\.jsonl\).*`.*/\*\.arrow` or",
        ),
        (
            ("a.parquet", "data/b.parquet"),
            r"Parquet \(a\.parquet\), Parquet \(data/b\.parquet\).*`.*/data/\*\.parquet`",
        ),
        (("a.json.gz", "data/b.tar"), r"tar \(data/b\.tar\).*`.*/pool/\*\.json\.gz`|JSON \(a\.json\.gz\)"),
    ],
)
def test_data_of_several_kinds_are_refused(tmp_path, names, told):
    with pytest.raises(DatasetError, match=told):
        files_of_folder(folder_of(tmp_path, *names))


def test_a_folder_of_json_alone_has_no_tables(tmp_path):
    assert files_of_folder(folder_of(tmp_path, "a.json", "b.jsonl")) == []


def test_a_mixed_folder_cannot_be_opened(tmp_path):
    pq.write_table(pa.table({"id": ["x"]}), folder_of(tmp_path, "a.jsonl") / "b.parquet")
    with pytest.raises(DatasetError, match="several kinds"):
        open_pool(tmp_path / "pool")

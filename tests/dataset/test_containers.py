"""What lies at a path is recognised, and what cannot be read is told with what could be."""

import bz2
import io
import json
import lzma
import zipfile

import pytest

from scalselect.dataset.containers import open_records
from scalselect.dataset.opening import open_pool
from scalselect.errors import DatasetError

RECORDS = [{"id": "a", "conversations": [{"from": "human", "value": "Hi"}]}]


@pytest.mark.parametrize("before", ["file://", "file:", "FILE://localhost"])
def test_a_file_url_is_the_path(tmp_path, before):
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(RECORDS))
    records, location = open_records(f"{before}{path}")
    assert (len(records), location) == (1, str(path))


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pool.json", "[]")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (zipped(), "is zip-compressed: unpack it first"),
        (b"\x28\xb5\x2f\xfd\x04\x00\x59", "is zstd-compressed: unpack it first"),
        (bz2.compress(b"[{}]"), "is bzip2-compressed: unpack it first"),
        (lzma.compress(b"[{}]"), "is xz-compressed: unpack it first"),
        (
            b"id,conversations\n1,Hi\n",
            "CSV is not read: .*wanted: JSON, JSON Lines .*, Parquet, Arrow or a WebDataset tar",
        ),
        (b"what?", "nor any other kind that is read: .*Parquet, Arrow or a WebDataset tar"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(tmp_path, content, told):
    path = tmp_path / "pool.csv" if b"," in content else tmp_path / "pool"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=told):
        open_records(path)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_inside_an_object_is_told_by_its_key(tmp_path, indent):
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({"version": [1], "data": RECORDS}, indent=indent))
    with pytest.raises(DatasetError, match=r"list under `data`.*save that list alone"):
        open_pool(path)


def test_a_folder_without_data_tells_what_is_read(tmp_path):
    with pytest.raises(DatasetError, match=r"is a folder: .*Parquet, Arrow or a WebDataset tar, or a folder of one"):
        open_records(tmp_path)


@pytest.mark.parametrize("location", ["hf://models/x", "hf://owner/name/pool.json", "HF://spaces/a/b"])
def test_a_hub_has_other_things_than_data_sets(location):
    with pytest.raises(DatasetError, match=r"names no data set of a hub: .*wanted: hf://datasets/OWNER/NAME"):
        open_records(location)


def test_one_record_on_several_lines_is_none_around_others(tmp_path):
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({**RECORDS[0], "images": [{"bytes": None, "path": "a.png"}]}, indent=1))
    with pytest.raises(DatasetError, match="one JSON object spread over several lines"):
        open_records(path)

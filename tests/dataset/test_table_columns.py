"""Files of one data set have the same columns, or are refused by name before any work."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset.containers import open_records
from scalselect.dataset.table_columns import check_same_columns
from scalselect.errors import DatasetError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BASE = pa.schema([("id", pa.string()), ("turns", pa.list_(pa.string())), ("image", IMAGE)])


def check(tmp_path, *schemas):
    check_same_columns((tmp_path / f"{number}.parquet", schema) for number, schema in enumerate(schemas))


def with_type(name, kind):
    place = BASE.get_field_index(name)
    return BASE.set(place, pa.field(name, kind))


@pytest.mark.parametrize(
    "other",
    [
        BASE.with_metadata({"huggingface": "{}"}),
        pa.schema([BASE.field("image"), BASE.field("turns"), BASE.field("id")]),
        pa.schema([field.with_nullable(nullable=False) for field in BASE]),
        with_type("id", pa.large_string()),
        with_type("id", pa.dictionary(pa.int32(), pa.string())),
        with_type("turns", pa.large_list(pa.field("element", pa.string(), nullable=False))),
        with_type("image", pa.null()),
        with_type("image", pa.struct([("path", pa.null()), ("bytes", pa.large_binary())])),
    ],
)
def test_layout_does_not_matter(tmp_path, other):
    check(tmp_path, BASE, other, BASE)
    check(tmp_path, other, BASE)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (BASE.remove(0), "`id` is absent there and string in 0.parquet"),
        (BASE.append(pa.field("more", pa.int64())), "`more` is int64 there and absent in 0.parquet"),
        (with_type("id", pa.int64()), "`id` is int64 there and string in 0.parquet"),
        (with_type("turns", pa.string()), "`turns` is string there and list<string> in 0.parquet"),
        (
            with_type("image", pa.struct([("path", pa.string())])),
            "`image` is struct<path: string> there and struct<bytes: binary, path: string> in 0.parquet",
        ),
    ],
)
def test_the_columns_that_differ_are_named(tmp_path, other, told):
    with pytest.raises(DatasetError) as raised:
        check(tmp_path, BASE, BASE, other)
    assert f"different columns: {tmp_path / '2.parquet'} ({told});" in str(raised.value)


def test_nulls_first_take_the_type_of_the_next(tmp_path):
    nulls = with_type("id", pa.null())
    check(tmp_path, nulls, BASE)
    with pytest.raises(DatasetError, match=r"2\.parquet"):
        check(tmp_path, nulls, BASE, with_type("id", pa.int64()))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_files_that_differ_are_refused_at_opening(tmp_path, ending):
    for number, name in enumerate(("id", "key")):
        table = pa.table({name: ["x"]})
        path = tmp_path / f"{number}.{ending}"
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
    with pytest.raises(DatasetError, match=r"1\..*`id` is absent there and string.*`key` is string there and absent"):
        open_records(tmp_path)

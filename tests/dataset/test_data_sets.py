"""Several data sets in a call: what a word asks for, names that differ, rows one after the other."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset.data_sets import DataSet, data_sets_of, free_name, open_pools, parse_data_set
from scalselect.errors import DatasetError, OptionError

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]


def write(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"id": each, "image": "a.png", "conversations": TURNS} for each in ids]))
    return path


@pytest.mark.parametrize(
    ("word", "asked"),
    [
        ("pool.json", DataSet("pool.json")),
        ("coco=pool.json", DataSet("pool.json", "coco")),
        ("coco=/a/b,c/pool.json,images=/d", DataSet("/a/b,c/pool.json", "coco", "/d")),
        ("coco=p.json,format=llava,images=d", DataSet("p.json", "coco", "d", "llava")),
        ("p.json,images=d", DataSet("p.json", None, "d")),
        ("/a=b/pool.json", DataSet("/a=b/pool.json")),
        ("s3://bucket/a=1/pool.json", DataSet("s3://bucket/a=1/pool.json")),
        ("vqa=s3://bucket/pool.json", DataSet("s3://bucket/pool.json", "vqa")),
        ("vqa=shard-{000..003}.tar", DataSet("shard-{000..003}.tar", "vqa")),
        ("vqa=shard-{0,1}.tar,images=d", DataSet("shard-{0,1}.tar", "vqa", "d")),
    ],
)
def test_words(word, asked):
    assert parse_data_set(word) == asked


def test_a_file_of_that_very_name_is_meant_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a=b.json", ["x"])
    assert parse_data_set("a=b.json") == DataSet("a=b.json")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("=pool.json", "name of a data set"),
        (".a=pool.json", "not begin with a dot"),
        ("a b=pool.json", "name of a data set"),
        ("rows=pool.json", "cannot be the name"),
        ("p.json,image=d", r"no option `image`.*images=DIR, format=NAME.*did you mean `images`"),
        ("a=p.json,images=d,formt=llava", r"no option `formt`.*did you mean `format`"),
        ("a=p.json,images=", "images of a data set is empty"),
        ("a=p.json,images=c,images=d", "images of a data set is given twice"),
    ],
)
def test_words_that_mean_nothing(word, told):
    with pytest.raises(OptionError, match=told):
        parse_data_set(word)


def test_an_option_like_no_other_behind_a_file_that_is_there(tmp_path):
    path = write(tmp_path / "a.json", "1")
    for word in (f"{path},folder=d", f"b={path},folder=d"):
        with pytest.raises(OptionError, match="no option `folder`"):
            parse_data_set(word)
    year = f"{tmp_path}/part,year=2020/a.json"
    assert parse_data_set(year) == DataSet(year)


def test_what_a_call_may_be_given(tmp_path):
    records = [{"conversations": TURNS}]
    assert data_sets_of(records) == [DataSet(records)]
    assert data_sets_of(["a.json", tmp_path]) == [DataSet("a.json"), DataSet(tmp_path)]
    assert data_sets_of({"a": records, "b": "b.json,images=c"}) == [
        DataSet(records, "a"),
        DataSet("b.json", "b", "c"),
    ]
    with pytest.raises(OptionError, match="two data sets have the name 'a'"):
        data_sets_of(["a=x.json", "A=y.json"])
    with pytest.raises(OptionError, match="has two names"):
        data_sets_of({"a": "b=x.json"})
    with pytest.raises(DatasetError, match="no data set was given"):
        data_sets_of({})


def test_each_has_its_own_images_and_the_rows_follow_one_another(tmp_path):
    first, second = write(tmp_path / "a" / "pool.json", "123"), write(tmp_path / "b" / "pool.json", "45")
    (tmp_path / "pictures").mkdir()
    pools, _ = open_pools([f"coco={first}", f"{second},images={tmp_path / 'pictures'}"], images=str(tmp_path))
    assert [(pool.source, len(pool), pool.images) for pool in pools] == [
        ("coco", 3, str(tmp_path)),
        ("pool", 2, str(tmp_path / "pictures")),
    ]
    assert [pool.source for pool in open_pools([first, second])[0]] == ["pool", "pool-2"]


def test_the_first_rows_of_all_together(tmp_path):
    paths = [write(tmp_path / f"{name}.json", name * 3) for name in "abc"]
    for limit, sizes in ((2, [2]), (3, [3]), (5, [3, 2]), (9, [3, 3, 3]), (20, [3, 3, 3])):
        pools, records = open_pools(paths, limit=limit)
        assert ([len(pool) for pool in pools], records) == (sizes, 9)
    with pytest.raises(OptionError, match="limit must be"):
        open_pools(paths, limit=0)


def test_the_same_data_twice(tmp_path):
    path = write(tmp_path / "a.json", "12")
    with pytest.raises(DatasetError, match="the same data are given twice"):
        open_pools([path, f"b={path}"])


def test_one_file_in_two_data_sets(tmp_path):
    for name in ("train-0", "train-1", "val-0"):
        pq.write_table(pa.Table.from_pylist([{"id": name, "conversations": TURNS}]), tmp_path / f"{name}.parquet")
    (tmp_path / "other.parquet").symlink_to(tmp_path / "train-1.parquet")
    both = tmp_path / "train-*.parquet"
    assert len(open_pools([both, tmp_path / "val-0.parquet"])[0]) == 2
    for first, second in (("train-0", "train-*"), ("train-*", "train-1"), ("train-*", "other")):
        with pytest.raises(DatasetError, match=r"given twice: .*\.parquet is in .* and in .* before"):
            open_pools([tmp_path / f"{first}.parquet", f"b={tmp_path / second}.parquet"])


def test_free_names():
    assert [free_name(name, {"a", "a-2", "b"}) for name in ("a", "B", "c", "rows")] == ["a-3", "B-2", "c", "rows-2"]

"""A pattern means the files a shell would find, in a fixed order, or is refused naming what is not there."""

import subprocess

import pytest

from object_store import store
from scalselect.dataset.path_patterns import expand, is_pattern
from scalselect.errors import DatasetError

NAMES = ["train-00000.tar", "train-00001.tar", "train-00002.tar", "val-00000.tar", "odd[1].tar", "a{b,c}.tar"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "train-{00000..00002}.tar",
        "{val,train}-00000.tar",
        "{val-00000,train-0000{2,0}}.tar",
        "train-*.tar",
        "*-0000[02].tar",
        "{val,train}-*.tar",
        "train-0000?.tar",
        "train-00001.tar",
    ],
)
def test_a_shell_finds_the_same_files(folder, pattern):
    printed = subprocess.run(
        ["bash", "-c", f"LC_ALL=C; printf '%s\\n' {pattern}"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert expand(str(folder / pattern)) == [str(folder / name) for name in printed.stdout.split()]


@pytest.mark.parametrize("name", ["odd[1].tar", "a{b,c}.tar", "train-00000.tar"])
def test_a_name_with_such_characters_means_itself(folder, name):
    assert not is_pattern(str(folder / name))
    assert expand(str(folder / name)) == [str(folder / name)]


def test_relative_patterns_give_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert expand("val-*.tar") == ["val-00000.tar"]


def test_braces_of_a_url_are_expanded():
    assert expand("s3://bucket/train-{08..11}.tar") == [f"s3://bucket/train-{n}.tar" for n in ("08", "09", "10", "11")]
    assert expand("s3://bucket/train.tar") == ["s3://bucket/train.tar"]


def test_a_shell_and_a_store_find_the_same_files(folder, bucket):
    for name in (*NAMES, ".hidden.tar", "sub.tar/inner"):
        store().pipe_file(f"{bucket}/{name}", b"x")
    for pattern in ("train-*.tar", "*-0000[02].tar", "{val,train}-*.tar", "train-0000?.tar"):
        assert expand(f"{bucket}/{pattern}") == [
            f"{bucket}/{path.rpartition('/')[2]}" for path in expand(str(folder / pattern))
        ]
    assert f"{bucket}/.hidden.tar" not in expand(f"{bucket}/*.tar")
    assert f"{bucket}/sub.tar" not in expand(f"{bucket}/*.tar")
    with pytest.raises(DatasetError, match=r"no file matches: s3://.*/trian-\*\.tar"):
        expand(f"{bucket}/trian-*.tar")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("train-{00000..00003}.tar", r"data file does not exist: .*train-00003\.tar \(of .*\) \(did you mean `train-0"),
        ("trian-*.tar", r"no file matches: .*trian-\*\.tar"),
        ("nowhere/{a,b}", "data file does not exist: .*nowhere/a"),
        ("train-0000{0,0}.tar", r"names a file more than once: .*\(.*train-00000\.tar\)"),
        ("{train,val}-{00000.tar", "braces that are not closed"),
    ],
)
def test_what_is_not_there_is_named(folder, pattern, message):
    with pytest.raises(DatasetError, match=message):
        expand(str(folder / pattern))

"""Images that lie in the data: data URLs and base64 are found by row and number, broken ones have a reason."""

import base64
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset.opening import open_pool
from scalselect.errors import SampleError
from scalselect.records import ImageReference

FIRST, SECOND, THIRD = b"\x89PNG first", bytes(range(256)), "Zürich".encode()


def encoded(content):
    return base64.b64encode(content).decode()


def data_url(content, kind="image/png;base64"):
    return f"data:{kind},{encoded(content)}"


def pool_of(*contents, images=(), folder=None):
    turns = [{"role": "user", "content": content} for content in contents]
    filler = {"messages": [{"role": "user", "content": "x"}]}
    return open_pool([filler, {"messages": turns, "images": list(images)}], images=folder)


def test_bytes_are_found_by_row_and_number_in_order_of_appearance():
    part = {"type": "image_url", "image_url": {"url": data_url(FIRST)}}
    images = [{"bytes": encoded(SECOND), "path": "b.png"}, "c.png", data_url(THIRD)]
    pool = pool_of([part, {"type": "text", "text": "<image> and <image> and <image>"}], images=images, folder="/")
    (sample,) = pool.read(1, 2)
    assert sample.images == (
        ImageReference("images[0]", "", (1, 0)),
        ImageReference("b.png", "", (1, 1)),
        ImageReference("c.png", "/c.png"),
        ImageReference("images[3]", "", (1, 3)),
    )
    found = [pool.embedded_image(image) for image in sample.images if image.embedded]
    assert found == [FIRST, SECOND, THIRD]
    assert pool.images_found() == ("/c.png", 1)


@pytest.mark.parametrize(
    ("image", "content"),
    [
        (data_url(FIRST, "image/jpeg;charset=x;BASE64"), FIRST),
        (data_url(FIRST, ";base64").replace("data:", "DATA:"), FIRST),
        ("data:image/svg+xml,%3Csvg%2F%3E", b"<svg/>"),
        ("data:image/png;base64," + encoded(SECOND).replace("/", "%2F").replace("+", "%2B"), SECOND),
        ({"bytes": encoded(SECOND)[:100] + "\n" + encoded(SECOND)[100:]}, SECOND),
        ({"bytes": data_url(SECOND)}, SECOND),
        ({"bytes": "", "path": "a.png"}, b""),
        (encoded(SECOND * 8), SECOND * 8),
    ],
)
def test_spellings_of_bytes(image, content):
    pool = pool_of("<image> x", images=[image])
    (sample,) = pool.read(1, 2)
    assert pool.embedded_image(sample.images[0]) == content


@pytest.mark.parametrize(
    ("image", "reason", "words"),
    [
        ("data:image/png;base64", "image_unreadable", "without a comma"),
        ("data:image/png;base64,%%", "image_unreadable", "the data URL cannot be read as base64"),
        ({"bytes": "abc"}, "image_unreadable", "`bytes` cannot be read as base64"),
        ({"bytes": "ab\u00e9="}, "image_unreadable", "`bytes` cannot be read as base64"),
        ({"bytes": {"embedded": 0}}, "image_missing", "no bytes in the data, and no path"),
        ({"bytes": {"embedded": 0}, "path": "nothing-there.png"}, "image_missing", "No such file"),
        ({"bytes": {"embedded": 0}, "path": "https://x.org/a.png"}, "image_missing", "--allow-remote-images"),
    ],
)
def test_bytes_that_cannot_be_had_have_a_reason(image, reason, words):
    pool = pool_of("<image> x", images=[image])
    (sample,) = pool.read(1, 2)
    assert len(sample.images[0].text) < 40
    with pytest.raises(SampleError) as caught:
        pool.embedded_image(sample.images[0])
    assert caught.value.reason == reason
    assert words in caught.value.detail


def test_where_the_container_has_null_the_file_beside_it_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(FIRST)
    pool = pool_of("<image> x", images=[{"bytes": {"embedded": 0}, "path": "a.png"}], folder=tmp_path)
    (sample,) = pool.read(1, 2)
    assert pool.embedded_image(sample.images[0]) == FIRST


def test_a_long_path_stays_a_path():
    names = ["a/" * 2_000 + "b.png", encoded(SECOND)]
    (sample,) = pool_of("<image> <image> x", images=names, folder="/").read(1, 2)
    assert [image.path for image in sample.images] == [f"/{name}" for name in names]


def test_another_pools_image_is_misuse():
    pool = pool_of("<image> x", images=[data_url(FIRST)])
    for wrong in (None, (9, 0), (-1, 0), (1, 1), (0, 0)):
        with pytest.raises(ValueError, match=r"embedded image|shows \d images"):
            pool.embedded_image(ImageReference("x", "", wrong))


@pytest.mark.parametrize(
    ("folder", "beside"),
    [
        ("/pictures", set()),
        ("s3://b", {"s3://b/a.png"}),
        ("gs://b/deep/down", {"gs://b/a.png"}),
        ("s3://other", set()),
        ("hf://datasets/o/n@main/x", {"hf://datasets/o/n/a.png"}),
        ("hf://datasets/o/other", set()),
        ("hf://o/n", set()),
    ],
)
def test_urls_of_object_stores_pass_through_beside_the_image_folder_or_where_they_are_allowed(folder, beside):
    """A record decides nothing of what is reached with the credentials of whoever reads it."""
    turn = {"from": "human", "value": "<image> x"}
    names = ["s3://b/a.png", "gs://b/a.png", "hf://datasets/o/n/a.png", "/a"]
    pool = replace(open_pool([{"image": name, "conversations": [turn]} for name in names]), images=folder)
    for name, row in zip(names, pool.read(0, len(pool)), strict=True):
        if name in {*beside, "/a"}:
            assert row.images[0].path == name
        else:
            assert row.reason == "image_missing"
            assert f"not read without --allow-remote-images: {name!r}" in row.detail
    allowed = replace(pool, allow_remote_images=True).read(0, len(pool))
    assert [sample.images[0].path for sample in allowed] == names


@pytest.mark.parametrize("name", ["file:///d/a.png", "file://localhost/d/a", "file:/d/a", "FILE:///a", "file:a"])
def test_no_image_is_read_by_a_file_url(name):
    (row,) = pool_of("<image> x", images=[name]).read(1, 2)
    assert row.reason == "image_missing"
    assert f"a `file:` URL, by which no image is read; give the path alone: {name!r}" in row.detail


@pytest.mark.parametrize("name", ["ftp://x/a.png", "s3:///", "s3://", "x://y"])
def test_other_protocols_are_told(name):
    (row,) = pool_of("<image> x", images=[name]).read(1, 2)
    assert row.reason == "image_missing"
    assert f"neither a local path nor one of s3://, gs://, hf://: {name!r}" in row.detail


def test_web_addresses_pass_through_where_they_are_allowed():
    pool = pool_of("<image> x", images=["https://x.org/a.png"])
    (row,) = pool.read(1, 2)
    assert (row.reason, "--allow-remote-images" in row.detail) == ("image_missing", True)
    (sample,) = replace(pool, allow_remote_images=True).read(1, 2)
    assert sample.images == (ImageReference("https://x.org/a.png", "https://x.org/a.png"),)


def test_relative_paths_in_a_remote_folder_are_urls():
    pool = replace(
        pool_of("<image> <image> <image> x", images=["a/b.png", "/a", "s3://bucket/c"]), images="s3://bucket/dir/"
    )
    (sample,) = pool.read(1, 2)
    assert [image.path for image in sample.images] == ["s3://bucket/dir/a/b.png", "/a", "s3://bucket/c"]


def test_a_long_data_url_is_not_spelled_out_in_messages():
    turn = {"from": "human", "value": "<image> <image> x"}
    (row,) = open_pool([{"image": data_url(bytes(10**6)), "conversations": [turn]}]).read(0, 1)
    assert row.reason == "marker_mismatch"
    assert len(json.dumps(row.detail)) < 200


def test_empty_bytes_of_an_image_are_told_as_such(tmp_path):
    record = {"image": {"bytes": b"", "path": "a.png"}, "conversations": [{"from": "human", "value": "<image> x"}]}
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "pool.parquet")
    pool = open_pool(tmp_path / "pool.parquet")
    (sample,) = pool.read(0, 1)
    with pytest.raises(SampleError, match="image_unreadable: the bytes in the data are empty"):
        pool.embedded_image(sample.images[0])

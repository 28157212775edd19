"""Bytes and Pillow's pictures inside Python records are images, and come back in the written subset."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image

from scalselect.dataset.opening import open_pool
from scalselect.errors import SampleError
from scalselect.image_files import PictureView, decode_image

PICTURE = Image.effect_noise((20, 30), 90).convert("RGB")
TURNS = [{"role": "user", "content": "<image>What?"}]


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def record(*images, **more):
    return {"messages": [{"role": "user", "content": "<image>" * len(images) + "What?"}], "images": images, **more}


def images_of(pool, row=0):
    (sample,) = pool.read(row, row + 1)
    return [pool.embedded_image(image) for image in sample.images]


def pixels(content):
    return np.asarray(decode_image(content).picture)


@pytest.mark.parametrize("image", [b"abc", bytearray(b"abc"), memoryview(b"abc"), {"bytes": b"abc", "path": None}])
def test_bytes_are_images(image):
    pool = open_pool([record("a.png"), record("a.png", image)], images="/")
    (sample,) = pool.read(1, 2)
    assert [each.path for each in sample.images] == ["/a.png", ""]
    assert pool.embedded_image(sample.images[1]) == b"abc"
    assert pickle.loads(pickle.dumps(pool)).embedded_image(sample.images[1]) == b"abc"


def test_bytes_stand_under_any_key_and_in_parts():
    part = {"type": "image", "image": b"own"}
    pool = open_pool([{"image": b"x", "messages": [{"role": "user", "content": [part, {"type": "image"}, "What?"]}]}])
    assert images_of(pool) == [b"own", b"x"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "F", "I", "I;16"])
def test_a_picture_is_shown_as_a_file_of_it_would_be(mode):
    grey = mode in {"F", "I", "I;16", "LA"}
    picture = (PICTURE.convert("L") if grey else PICTURE).convert(mode)
    (content,) = images_of(open_pool([record(picture)]))
    assert (pixels(content) == np.asarray(picture.convert("RGB"))).all()


def test_orientation_of_a_picture_is_kept(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    PICTURE.save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as picture:
        pool = open_pool([record(picture)])
        (sample,) = pool.read(0, 1)
        assert sample.images[0].text == str(tmp_path / "turned.jpg")
        found = decode_image(pool.embedded_image(sample.images[0]), view=PictureView(exif="apply"))
    assert found.exif_rotated
    assert found.picture.size == (30, 20)


def test_a_broken_picture_has_a_reason(tmp_path):
    content = png(PICTURE)
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.png") as picture:
        pool = open_pool([record(picture)])
        (sample,) = pool.read(0, 1)
        with pytest.raises(SampleError) as caught:
            pool.embedded_image(sample.images[0])
        assert caught.value.reason == "image_unreadable"
        (written,) = pool.write([0], tmp_path / "selected")
        assert json.loads(written.path.read_text())[0]["images"][0]["bytes"] is None
        assert len(pool.fingerprint()["sha256"]) == 64


def test_the_written_subset_holds_the_same_images(tmp_path):
    records = [record("a.png"), record({"bytes": b"abc", "path": "b.png"}, PICTURE, id=2**70), record(b"x", note="é")]
    pool = open_pool(records)
    (written,) = pool.write([1, 2], tmp_path / "selected")
    again = open_pool(written.path)
    assert (written.records, len(again)) == (2, 2)
    assert [images_of(again, row) for row in (0, 1)] == [images_of(pool, row) for row in (1, 2)]
    assert [row.identity.id for row in again.read(0, 2)] == [str(2**70), None]
    assert json.loads(again.raw(1))["note"] == "é"


def test_the_fingerprint_is_of_the_images_too():
    other = PICTURE.copy()
    other.putpixel((0, 0), (1, 2, 3))
    lists = [[record(b"abc")], [record(b"abd")], [record(PICTURE)], [record(other)], [record("a.png")]]
    hashes = [open_pool(each).fingerprint()["sha256"] for each in lists]
    assert len(set(hashes)) == 5
    assert open_pool([record(PICTURE.copy())]).fingerprint()["sha256"] == hashes[2]


def test_a_place_that_nobody_made_holds_nothing():
    pool = open_pool([record({"bytes": {"embedded": 0}}), record(b"abc", {"bytes": {"embedded": 7}})])
    for row in (0, 1):
        with pytest.raises(SampleError, match="no bytes in the data"):
            images_of(pool, row)


def test_what_json_cannot_hold_is_still_a_fault():
    (row,) = open_pool([record(b"abc", when={1, 2})], format="messages").read(0, 1)
    assert row.detail == "cannot be written as JSON: Object of type set is not JSON serializable"

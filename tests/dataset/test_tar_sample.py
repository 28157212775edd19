"""A sample's record is its JSON member, with image members where the record names images, or in natural order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.tar_sample import json_member, record_of_sample
from scalselect.errors import SampleError

TWO = ["k/s.json", "k/s.0.png", "k/s.1.png"]


def images(*names):
    return [{"bytes": {"embedded": number}, "path": name} for number, name in enumerate(names)]


def test_images_come_in_natural_order():
    names = ["s.json", *(f"s.{number}.JPG" for number in (10, 9, 0, 2)), "s.txt", "s.webp"]
    text, members = record_of_sample(names, b'{"id": 7}')
    assert json.loads(text) == {"id": 7, "images": images("s.0.JPG", "s.2.JPG", "s.9.JPG", "s.10.JPG", "s.webp")}
    assert members == [3, 4, 2, 1, 6]


@pytest.mark.parametrize("named", [["k/s.1.png", "k/s.0.png"], ["s.1.png", "s.0.png"], ["1.png", "0.png"]])
@pytest.mark.parametrize("key", ["image", "images"])
def test_images_come_as_the_record_names_them(key, named):
    text, members = record_of_sample(TWO, json.dumps({key: named, "z": 1.0}).encode())
    assert text == json.dumps({key: images("k/s.1.png", "k/s.0.png"), "z": 1.0, "id": "k/s"}).encode()
    assert members == [2, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.png", [1]),
        (["1.png"], [2]),
        (["0.png", "0.png"], [1, 1]),
        ([{"path": "1.png"}, {"bytes": None, "path": "0.png"}], [2, 1]),
        (["coco/a.jpg", "coco/b.jpg"], [1, 2]),
        (None, [1, 2]),
        ("", [1, 2]),
        ([], [1, 2]),
    ],
)
def test_names_in_the_record_say_which_members_are_meant(value, expected):
    text, members = record_of_sample(TWO, json.dumps({"image": value}).encode())
    assert members == expected
    assert json.loads(text)["image"] == images(*(TWO[member] for member in expected))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "coco/a.jpg"}, "`image` names 1, among them 'coco/a.jpg'; 2 image members lie beside it"),
        ({"images": ["0.png", "x.png"]}, "`images` names 2, among them 'x.png'; 2 image members"),
        ({"images": ["0.png"], "image": "1.png"}, "name different members"),
        ({"images": [{"bytes": "abc"}]}, "holds what names no member"),
        ({"image": 5}, "holds what names no member"),
    ],
)
def test_names_that_are_not_beside_the_record_spoil_it(fields, words):
    with pytest.raises(SampleError, match=words):
        record_of_sample(TWO, json.dumps(fields).encode())


def test_both_image_keys_are_filled_alike():
    text, _ = record_of_sample(TWO, b'{"image":"0.png","a":1,"images":["0.png"]}')
    assert json.loads(text) == {"image": images(TWO[1]), "a": 1, "images": images(TWO[1]), "id": "k/s"}


def test_record_without_image_members_keeps_its_paths():
    assert record_of_sample(["s.json", "s.txt"], b' {"id":1,"image":"a.jpg"}\n') == (b'{"id":1,"image":"a.jpg"}', [])


@pytest.mark.parametrize(("name", "key"), [("s.mp4", "videos"), ("s.0.WAV", "audios")])
def test_other_media_are_named(name, key):
    text, _ = record_of_sample(["s.json", name], b'{"videos":[],"audios":null}')
    assert json.loads(text)[key] == [name]


def test_record_is_the_json_member():
    assert json_member(["s.meta.json", "s.jsn", "s.JSON"]) == 2
    assert json_member(["s.meta.json", "s.jsn"]) == 1
    with pytest.raises(SampleError, match=r"sample `s` has no `\.json` member, only `\.meta\.json`, `\.txt`"):
        json_member(["s.meta.json", "s.txt"])


KEYS = st.text(max_size=4) | st.sampled_from(["images", "image", "id", "videos"])
VALUES = st.none() | st.floats(allow_nan=False) | st.integers() | st.text() | st.lists(st.text(), max_size=2)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_all_other_fields_stay(fields, indent, ascii_only, with_image):
    fields |= {key: [] for key in ("images", "image") if key in fields}
    text = json.dumps(fields, indent=indent, ensure_ascii=ascii_only).encode()
    spliced, _ = record_of_sample(["k.json", "k.png"] if with_image else ["k.json"], text)
    expected = {"id": "k", **fields}
    if with_image:
        keys = [key for key in ("images", "image") if key in fields] or ["images"]
        expected |= dict.fromkeys(keys, images("k.png"))
    pairs = json.loads(spliced, object_pairs_hook=list)
    assert dict(pairs).keys() == expected.keys()
    assert len(pairs) == len(expected)
    assert json.loads(spliced) == expected

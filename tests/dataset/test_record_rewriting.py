"""Rewritten records: what was asked for is changed, and every other byte is as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.record_rewriting import Rewriting

BOTH = Rewriting(ids_as_strings=True, image_keys=("image", "images"))


def whole(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"id": 7}', b'{"id": "7"}'),
        (b'{ "id"\t:\n12345678901234567890123 , "x":1.50e3}', b'{ "id"\t:\n"12345678901234567890123" , "x":1.50e3}'),
        (b'{"id": "007"}', b'{"id": "007"}'),
        (b'{"id": null}', b'{"id": null}'),
        (b'{"id": [1, "a"]}', b'{"id": "[1, \\"a\\"]"}'),
        (b'{"id": 1, "id": 2}', b'{"id": "1", "id": "2"}'),
        (b'{"k": {"id": 7}}', b'{"k": {"id": 7}}'),
        (b'{"image": "a.png"}', b'{"image": "/d/a.png"}'),
        (b'{"image":["a.png" ,"b.png", "a.png"]}', b'{"image":["/d/a.png" ,"b.png", "/d/a.png"]}'),
        (b'{"images": [{"path": "a.png", "bytes": null}]}', b'{"images": [{"path": "/d/a.png", "bytes": null}]}'),
        (b'{"image": "\\u0061.png"}', b'{"image": "/d/a.png"}'),
        (b'{"image": null, "images": []}', b'{"image": null, "images": []}'),
        (b'{"text": "a.png", "im": "a.png"}', b'{"text": "a.png", "im": "a.png"}'),
        (b"{}", b"{}"),
        (b'{"x": NaN, "id": -1}', b'{"x": NaN, "id": "-1"}'),
    ],
)
def test_examples(raw, expected):
    assert BOTH(raw, {"a.png": "/d/a.png"}) == expected


def test_only_what_is_asked_for():
    raw = b'{"id": 7, "image": "a.png"}'
    assert Rewriting(ids_as_strings=False, image_keys=())(raw, {"a.png": "/a.png"}) == raw
    assert Rewriting(ids_as_strings=False, image_keys=("image",))(raw, {"a.png": "/a"}) == b'{"id": 7, "image": "/a"}'
    assert Rewriting(ids_as_strings=True, image_keys=())(raw, {"a.png": "/a"}) == b'{"id": "7", "image": "a.png"}'


def test_a_path_that_is_no_utf8_is_written_escaped():
    assert BOTH(b'{"image": "a"}', {"a": "/\udc80"}) == b'{"image": "/\\udc80"}'


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=4),
    st.integers() | st.text(),
    st.lists(st.text(), max_size=3),
    st.booleans(),
)
def test_any_record_with_its_keys_in_any_order(others, id_, images, escape):
    record = {**others, "image": images, "id": id_}
    raw = json.dumps(record, ensure_ascii=escape).encode("utf-8", "surrogatepass")
    paths = {image: f"/d/{image}" for image in images}
    found = json.loads(BOTH(raw, paths))
    assert found == {**record, "id": str(id_), "image": [paths[image] for image in images]}
    assert list(found) == list(record)
    untouched = {**others, "image": [], "id": "x"}
    assert BOTH(whole(untouched), {}) == whole(untouched)

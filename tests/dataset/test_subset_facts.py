"""What a loader will meet in some records, counted."""

from __future__ import annotations

import json

import pytest

from scalselect.dataset.opening import open_pool
from scalselect.dataset.subset_facts import facts_of_rows


def turns(*texts, keys=("from", "value"), roles=("human", "gpt")):
    return [dict(zip(keys, (roles[i % 2], text), strict=True)) for i, text in enumerate(texts)]


def facts(records, rows=None, **options):
    pool = open_pool(records, **options)
    return facts_of_rows(pool, range(len(pool)) if rows is None else rows)


def good(**fields):
    return {"id": "a", "image": "a.png", "conversations": turns("<image>\nhi", "yes"), **fields}


def test_an_even_set_has_little_to_tell():
    found = facts([good(), good(id="b")])
    assert (found.rows, found.ids, found.image_keys, found.turns_keys) == (
        2,
        {"string": 2},
        ["image"],
        ["conversations"],
    )
    assert (found.turn_keys, found.roles, found.relative) == ([["from", "value"]], ["human", "gpt"], 2)
    others = (found.text_only, found.several_images, found.without_marker, found.in_data, found.content_parts)
    assert (*others, found.image_lists, found.image_nulls) == (0,) * 7
    assert (found.mixed_images, found.mixed_fields, found.text_keys) == ([], [], [])


def test_only_the_rows_asked_for_count():
    found = facts([good(), good(id=3), good(image=["a", "b"])], rows=[1])
    assert (found.rows, found.ids, found.image_lists) == (1, {"number": 1}, 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": None}, {"text_only": 1, "image_nulls": 1}),
        ({"image": ""}, {"text_only": 1}),
        ({"image": []}, {"text_only": 1, "image_lists": 1, "mixed_images": ["image"]}),
        ({"image": ["a", "b"]}, {"several_images": 1, "image_lists": 1, "mixed_images": ["image"], "relative": 2}),
        ({"image": "/abs/a.png"}, {"relative": 1}),
        ({"image": "s3://b/a.png"}, {"relative": 1}),
        ({"image": "data:image/png;base64,AA"}, {"relative": 1, "in_data": 1}),
        ({"conversations": turns("hi", "yes")}, {"without_marker": 1}),
        ({"id": None}, {"ids": {"null": 1, "string": 1}}),
        ({"id": 7}, {"ids": {"number": 1, "string": 1}}),
        ({"id": True}, {"ids": {"other": 1, "string": 1}}),
        ({"k": 1}, {}),
        ({"k": [1, "x"]}, {"mixed_fields": ["k"]}),
        ({"k": [1, 2.5, None]}, {}),
        ({"system": "Be kind."}, {"text_keys": ["system"]}),
        (
            {"conversations": turns("<image>", "x", keys=("role", "content"))},
            {"turn_keys": [["from", "value"], ["role", "content"]]},
        ),
        ({"conversations": turns("<image>", "x", roles=("user", "gpt"))}, {"roles": ["gpt", "human", "user"]}),
    ],
)
def test_one_odd_row(fields, expected):
    plain = facts([good(), good()])
    found = facts([good(), good(**fields)])
    base = {"relative": 2 if expected.get("image_lists") is None and "image" not in fields else 1}
    for name, value in {**base, **expected}.items():
        assert getattr(found, name) == value, name
    for name in ("text_only", "several_images", "without_marker", "in_data", "image_nulls", "image_lists"):
        if name not in expected:
            assert getattr(found, name) == getattr(plain, name), name


def test_values_of_two_types_in_two_rows_are_mixed():
    assert facts([good(k=1), good(k="x"), good(j=1), good(j=None)]).mixed_fields == ["k"]
    assert facts([good(), good(image=["b.png"])]).mixed_images == ["image"]


def test_an_escaped_marker_is_one(tmp_path):
    text = json.dumps([good()]).replace("<", "\\u003c").replace(">", "\\u003E")
    (tmp_path / "a.json").write_text(text)
    assert facts(tmp_path / "a.json").without_marker == 0


def test_records_that_msgspec_refuses_are_read_all_the_same(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([good(k=float("nan")), good(k=float("inf"))]))
    found = facts(tmp_path / "a.json")
    assert (found.rows, found.relative, found.mixed_fields) == (2, 2, [])

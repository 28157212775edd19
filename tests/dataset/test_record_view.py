"""What a loader meets of a record: turns in every style, markers in texts and parts, what the image field holds."""

from __future__ import annotations

import json

import pytest

from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_fields import record_fields
from scalselect.dataset.record_view import view_record
from scalselect.errors import SampleError


def view(record):
    pool = open_pool([record], images="/")
    return view_record(record_fields(json.dumps(record).encode()), pool.record_format)


def talk(*turns, **fields):
    return {"conversations": [{"from": role, "value": text} for role, text in turns], **fields}


def test_turns_of_both_styles():
    found = view(talk(("human", "<image>\na <image>"), ("gpt", "b"), ("observation", "c"), ("narrator", "d")))
    assert [(turn.style, turn.role, turn.speaker, turn.markers) for turn in found.turns] == [
        ("from", "human", "user", 2),
        ("from", "gpt", "assistant", 0),
        ("from", "observation", "tool", 0),
        ("from", "narrator", None, 0),
    ]
    found = view({"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "<image>"}]})
    assert [(turn.style, turn.speaker, turn.markers) for turn in found.turns] == [
        ("role", "system", 0),
        ("role", "assistant", 1),
    ]
    assert (found.markers, found.markers_in_answers) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "key", "kind", "images"),
    [
        ({}, None, "absent", 0),
        ({"image": None}, "image", "null", 0),
        ({"image": ""}, "image", "empty", 0),
        ({"image": []}, "image", "empty", 0),
        ({"image": "a.png"}, "image", "string", 1),
        ({"image": ["a.png"]}, "image", "list", 1),
        ({"image": ["a.png", "b.png"]}, "image", "list", 2),
        ({"image": {"bytes": None, "path": "a.png"}}, "image", "object", 1),
        ({"image": 5}, "image", "other", 1),
        ({"images": ["a.png"]}, "images", "list", 1),
        ({"image": None, "images": ["a.png"]}, "images", "list", 1),
        ({"image": "a.png", "images": ["a.png"]}, "image", "string", 1),
    ],
)
def test_what_the_image_field_holds(fields, key, kind, images):
    found = view(talk(("human", "a"), **fields))
    assert (found.image_key, found.image_kind, found.images) == (key, kind, images)


def test_content_parts_are_markers_and_may_bring_their_image():
    parts = [{"type": "image"}, {"type": "text", "text": "see <image>"}, "plain <image>"]
    found = view({"messages": [{"role": "user", "content": parts}], "images": ["a.png", "b.png", "c.png"]})
    assert found.turns[0].in_parts
    assert (found.markers, found.images) == (3, 3)
    parts = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "image", "image": "b.png"}]
    found = view({"messages": [{"role": "user", "content": parts}]})
    assert (found.markers, found.images, found.image_kind) == (2, 2, "absent")


def test_what_is_no_turn():
    found = view({"conversations": ["a", {"value": "b"}, {"from": 3, "value": 4}, {"from": "human"}]})
    assert [(turn.style, turn.role, turn.markers) for turn in found.turns] == [
        (None, None, 0),
        (None, None, 0),
        ("from", None, 0),
        ("from", "human", 0),
    ]
    with pytest.raises(SampleError):
        view({"conversations": "no list"})

"""Samples as message and LLaVA records: read again they are the same conversation with the same images."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.message_export import encoded, llava_record, message_record, why_not_llava
from scalselect.dataset.opening import open_pool

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6).filter(
    lambda text: text.strip() == text
)


@st.composite
def records(draw):
    questions = draw(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
    images = draw(st.lists(st.sampled_from(["a.png", "b.png", "c d.png"]), max_size=2))
    turns = [
        {"from": role, "value": text} for pair in questions for role, text in zip(("human", "gpt"), pair, strict=True)
    ]
    if draw(st.booleans()):
        turns[0]["value"] = "<image>\n" * len(images) + turns[0]["value"]
    return {"id": draw(st.none() | st.integers() | WORDS), "image": images, "conversations": turns}


def sample_of(record, folder):
    return next(iter(open_pool([record], images=folder).read(0, 1)))


def spoken(sample):
    return [(turn.role, turn.parts) for turn in sample.turns]


@given(records())
def test_what_was_written_is_read_as_the_same(record):
    sample = sample_of(record, "/usr")
    paths = [image.path for image in sample.images]
    written = json.loads(encoded(message_record(sample, paths)))
    again = sample_of(written, "/tmp")
    assert spoken(again) == spoken(sample)
    assert [image.path for image in again.images] == paths
    null = record["id"] is None
    assert written["id"] == (None if null else sample.identity.id)
    assert (again.identity.id, again.identity.id_type) == (sample.identity.id, "null" if null else "string")
    assert list(written) == ["id", "messages", "images"]
    if why_not_llava(sample) is None:
        written = json.loads(encoded(llava_record(sample, paths)))
        assert spoken(sample_of(written, "/tmp")) == spoken(sample)
        assert isinstance(written.get("image", ""), str)
        assert ("image" in written) == bool(paths)
        assert {turn["from"] for turn in written["conversations"]} == {"human", "gpt"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"image": ["a", "b"]}, "several_images"),
        ({"conversations": [{"from": "system", "value": "x"}, {"from": "human", "value": "y"}]}, "system_turn"),
    ],
)
def test_what_llava_would_stop_at(fields, reason):
    record = {"image": "a", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], **fields}
    assert why_not_llava(sample_of(record, "/usr")) == reason


def test_a_record_without_an_id_gets_none():
    sample = sample_of({"conversations": [{"from": "human", "value": "x"}]}, "/usr")
    assert message_record(sample, []) == {"messages": [{"role": "user", "content": "x"}], "images": []}
    assert encoded({"a": "ü"}) == '{"a": "ü"}'.encode()

"""Fields of several types over the rows of a file, and files that a trainer does not read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.file_rules import FieldKinds, faults_of_file
from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_fields import record_fields

TALK = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi"}]}


def looked_at(*records, first=0):
    """Return the kinds of fields of records, and their format."""
    record_format = open_pool([{**TALK, **record} for record in records], images="/").record_format
    kinds = FieldKinds()
    for row, record in enumerate(records, start=first):
        kinds.add(row, record_fields(json.dumps({**TALK, **record}).encode()), record_format)
    return kinds, record_format


def kinds_of(trainer, *records, container="json"):
    kinds, record_format = looked_at(*records)
    return [(fault.kind, fault.effect) for fault in faults_of_file(trainer, container, record_format, kinds)]


STOPS = "stops the run"


@pytest.mark.parametrize(
    ("records", "llamafactory"),
    [
        ([{"id": 1}, {"id": "007"}], ["mixed_id_types"]),
        ([{"image": "a.png"}, {"image": ["a.png"]}], ["mixed_image_types"]),
        ([{"meta": {"k": [1, "x"]}}], ["mixed_field_types"]),
        ([{"meta": {"k": 1}}, {"meta": {"k": {"j": 2}}}], ["mixed_field_types"]),
        ([{"n": True}, {"n": 1}], ["mixed_field_types"]),
        ([{"id": 1}, {"id": 1.5}, {"id": None}, {}], []),
        ([{"image": "a.png"}, {"image": None}, {}], []),
        ([{"meta": [[1], [2.5]]}, {"meta": []}, {"meta": None}], []),
    ],
)
def test_as_measured(records, llamafactory):
    for container in ("json", "jsonl", "list"):
        assert kinds_of("llamafactory", *records, container=container) == [(kind, STOPS) for kind in llamafactory]
        assert kinds_of("trl", *records, container=container) == []  # the export has one type a column
    assert kinds_of("ms-swift", *records) == []
    assert kinds_of("llava", *records) == []
    assert kinds_of("llamafactory", *records, container="parquet") == []  # a column has one type


def test_the_first_row_of_each_type_is_told():
    kinds, record_format = looked_at({"id": 1}, {"id": 2}, {"id": "x"}, {"id": 3})
    (fault,) = faults_of_file("llamafactory", "json", record_format, kinds)
    assert fault.detail == "`id` is a number in row 0, a string in row 2: no row loads"


def test_containers_and_formats_that_are_not_read():
    assert kinds_of("llava", {}, container="jsonl") == [("container_not_read", STOPS)]
    assert kinds_of("llava", {}, container="json") == []
    assert kinds_of("llamafactory", {}, container="tar") == [("container_not_read", STOPS)]
    assert kinds_of("trl", {}, container="tar") == []
    record = {"messages": [{"role": "user", "content": "Hi"}]}
    record_format = open_pool([record], images="/").record_format
    kinds = FieldKinds()
    kinds.add(0, record_fields(json.dumps(record).encode()), record_format)
    assert [fault.kind for fault in faults_of_file("llava", "json", record_format, kinds)] == ["format_not_read"]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "meta", "image"]), values, max_size=3), min_size=1, max_size=8))
def test_parts_put_together_say_what_the_whole_says(records):
    whole, _ = looked_at(*records)
    middle = len(records) // 2
    for order in (1, -1):
        parts = [looked_at(*records[:middle] or [{}], first=0)[0] if middle else FieldKinds()]
        parts.append(looked_at(*records[middle:], first=middle)[0])
        together = FieldKinds()
        for part in parts[::order]:
            together.merge(part)
        assert together.first_rows == whole.first_rows

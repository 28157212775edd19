"""Bounds found for all records at once are those found one by one."""

from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import json_index


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"\t", b"\r", b'{"a":1}', b"x", b"\x0b"]), max_size=30))
def test_lines_are_found_as_one_by_one(pieces):
    content = b"".join([b"{}\n", *pieces])
    starts, stops = json_index.line_offsets(content, 0)
    assert [*zip(starts.tolist(), stops.tolist(), strict=True)] == list(json_index._line_bounds(content, 0))


@given(st.lists(st.sampled_from([b",", b", ", b" ,\n", b",\n  "]), max_size=4), st.booleans())
def test_separators_that_differ_are_followed(separators, alike):
    separators = separators[:1] * len(separators) if alike else separators
    records = [b'{"a": [",", 1]}'] * (len(separators) + 1)
    content = b"[ " + b"".join(map(b"".join, zip(records, [*separators, b" ]"], strict=True)))
    starts, stops = json_index.array_offsets(content, 0)
    assert [content[start:stop] for start, stop in zip(starts, stops, strict=True)] == records

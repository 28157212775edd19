"""Segments of a run: rows and shards are counted on, old ones never move, and run.json says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect import segments as nouns
from scalselect.segments import Segment, entries_of, rows_of, segments_of, shards_of, shards_with

REPRESENT = {
    "images": "/pictures",
    "rows": 25,
    "shard_size": 10,
    "data_sha256": "aa",
    "data_bytes": 99,
    "data_records": 30,
    "data_format": "llava",
}
RUN = {"represent": REPRESENT, "data": {"path": "/data/pool.json", "source": "pool"}}


def next_segment(segments, rows, source):
    last = segments[-1]
    return Segment(
        path=f"/data/{source}.json",
        source=source,
        images="/pictures",
        rows=rows,
        first_row=last.stop_row,
        first_shard=last.shards.stop,
        shard_size=last.shard_size,
        data_sha256="bb",
        data_bytes=1,
        data_records=rows,
        data_format="llava",
    )


def test_a_run_that_never_grew_has_one_segment():
    (segment,) = segments_of(RUN)
    assert (segment.path, segment.source, segment.rows, segment.first_row) == ("/data/pool.json", "pool", 25, 0)
    assert segment.shards == range(3)
    assert segment.fingerprint == {"sha256": "aa", "bytes": 99, "records": 30}
    assert (rows_of(RUN), shards_of(RUN)) == (25, range(3))
    assert segments_of({**RUN, "segments": None}) == [segment]


def test_vectors_alone_have_shards_too():
    assert shards_of({"represent": {"rows": 21, "shard_size": 10}}) == range(3)


@given(st.lists(st.integers(1, 50), max_size=5))
def test_segments_come_back_and_lie_one_after_the_other(sizes):
    segments = segments_of(RUN)
    for number, rows in enumerate(sizes):
        segments.append(next_segment(segments, rows, f"more-{number}"))
    run = json.loads(json.dumps({**RUN, "segments": entries_of(segments)}))
    assert segments_of(run) == segments
    assert segments_of(run)[0] == segments_of(RUN)[0]
    rows, shards = [], []
    for segment in segments:
        rows += range(segment.first_row, segment.stop_row)
        shards += segment.shards
        assert len(segment.shards) == -(-segment.rows // segment.shard_size)
    assert rows == list(range(rows_of(run)))
    assert shards == list(shards_of(run))


@pytest.mark.parametrize("entry", [{}, {"path": "x"}, 5])
def test_damaged_entries(entry):
    with pytest.raises((KeyError, TypeError)):
        segments_of({**RUN, "segments": [entry]})


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 7), st.data())
def test_shards_are_found_in_which_rows_lie(sizes, shard_size, data):
    """Against the spans of every shard, looked through one by one."""
    segments = []
    for place, size in enumerate(sizes):
        facts = {"path": f"/{place}.json", "source": str(place), "images": "/", "rows": size, "shard_size": shard_size}
        facts |= {"data_sha256": str(place), "data_bytes": 1, "data_records": size, "data_format": "llava"}
        segments.append(nouns.next_segment(segments[-1] if segments else None, **facts))
    run = {"represent": {}, "segments": entries_of(segments)}
    rows = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=9))
    spans = {shard: span for segment in segments for shard, span in segment.spans.items()}
    assert list(shards_with(run, rows)) == [shard for shard, span in spans.items() if any(row in span for row in rows)]
    run["represent"]["order"] = "image"
    assert list(shards_with(run, rows)) == list(spans)

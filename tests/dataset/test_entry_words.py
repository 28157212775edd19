"""What one entry of `dataset_info.json` cannot name: two keys of turns or images, two words for a role."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.dataset_info_format import format_from_mapping
from scalselect.dataset.entry_words import EntryWords, entry_tags
from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_fields import record_fields
from scalselect.dataset.record_view import view_record
from scalselect.dataset.trainer_rules import ENTRY_ROLES, faults_for


def messages(*roles, key="messages", images="images"):
    turns = [{"role": role, "content": "<image>" * (number == 0)} for number, role in enumerate(roles)]
    return {key: turns, images: ["a.png"]}


def words_of(records, record_format=None, first=0):
    record_format = record_format or open_pool(records, images="/").record_format
    words = EntryWords()
    for row, record in enumerate(records, start=first):
        words.add(row, view_record(record_fields(json.dumps(record).encode()), record_format))
    return words


@pytest.mark.parametrize(
    ("other", "kind", "detail"),
    [
        (
            messages("user", "assistant", key="conversation"),
            "turns_under_two_keys",
            "`conversation` in 1 row (first: 2)",
        ),
        (messages("user", "assistant", images="image"), "images_under_two_keys", "`image` in 1 row (first: 2)"),
        (messages("human", "assistant"), "role_in_two_words", "`user` in 2 rows (first: 0), `human` in 1 row "),
        (
            {
                "messages": [{"from": "user", "value": "<image>"}, {"from": "assistant", "value": ""}],
                "images": ["a.png"],
            },
            "turns_in_two_styles",
            "`role` in 2 rows (first: 0), `from` in 1 row ",
        ),
    ],
)
def test_rows_that_differ_from_the_others(other, kind, detail):
    usual = messages("user", "assistant")
    assert list(words_of([usual, usual]).faults()) == []
    (fault,) = words_of([usual, usual, other]).faults()
    assert fault.kind == kind
    assert detail in fault.detail


def test_a_mapping_names_words_of_its_own():
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = {"formatting": "sharegpt", "columns": {"messages": "messages", "images": "images"}, "tags": tags}
    records = [messages("user", "assistant"), messages("human", "assistant")]
    assert words_of(records, format_from_mapping(entry)).used == {}


roles = st.sampled_from([word for words in ENTRY_ROLES.values() for word in words])


@given(st.lists(roles, max_size=8), st.sampled_from([("from", "value"), ("role", "content")]))
def test_the_entry_that_is_written_reads_what_is_judged_readable(used, keys):
    """Second road: the words of the tags themselves."""
    tags = entry_tags(*keys, used)
    named = {tags[tag] for tag in ENTRY_ROLES}
    assert len(named) == len(ENTRY_ROLES)
    record = {"conversations": [{keys[0]: role, keys[1]: "a"} for role in used]}
    record_format = open_pool([{"conversations": [{"from": "human", "value": "a"}]}], images="/").record_format
    view = view_record(record_fields(json.dumps(record).encode()), record_format)
    found = [fault for fault in faults_for("llamafactory", view) if fault.kind == "role_not_known"]
    assert bool(found) == (not set(used) <= named)


@given(st.lists(st.lists(roles, min_size=1, max_size=3), min_size=2, max_size=6), st.integers(1, 5))
def test_parts_put_together_say_what_the_whole_says(rows, cut):
    records = [messages(*row) for row in rows]
    record_format = open_pool(records, images="/").record_format
    whole = words_of(records, record_format)
    for order in (1, -1):
        together = EntryWords()
        for part in (words_of(records[:cut], record_format), words_of(records[cut:], record_format, cut))[::order]:
            together.merge(part)
        assert together.used == whole.used

"""What the four trainers did to rows with one fault each, as measured; a row without fault is none's problem."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from scalselect.dataset.dataset_info_format import format_from_mapping
from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_fields import record_fields
from scalselect.dataset.record_view import view_record
from scalselect.dataset.trainer_rules import Effect, effect_of, faults_for
from scalselect.records import Reason
from scalselect.trainers import TRAINERS

OK = None
DROPPED, STOPS, WRONG = "dropped", "stops the run", "trained wrongly"


def talk(*turns, **fields):
    return {"conversations": [{"from": role, "value": text} for role, text in turns], **fields}


def messages(*turns, **fields):
    return {"messages": [{"role": role, "content": text} for role, text in turns], **fields}


ASK, TELL = ("human", "<image>\nWhat?"), ("gpt", "A cat.")

# Each line: a record, and what LLaMA-Factory 0.9.5, ms-swift 4.6.0, TRL 1.16.0 and LLaVA 1.2.2 did with such a row.
MEASURED = {
    "whole": (talk(ASK, TELL, image="a.png"), OK, OK, OK, OK),
    "several rounds": (talk(ASK, TELL, ("human", "And?"), TELL, image="a.png"), OK, OK, OK, OK),
    "marker in a later turn": (talk(("human", "Hi"), TELL, ASK, TELL, image="a.png"), OK, OK, OK, OK),
    "text-only, no key": (talk(("human", "Hi"), TELL), OK, OK, OK, OK),
    "text-only, empty list": (talk(("human", "Hi"), TELL, image=[]), OK, OK, OK, STOPS),
    "text-only, null": (talk(("human", "Hi"), TELL, image=None), OK, OK, OK, STOPS),
    "two images": (
        talk(("human", "<image><image>Which?"), TELL, image=["a.png", "b.png"]),
        OK,
        OK,
        OK,
        STOPS,
    ),
    "image, no marker": (talk(("human", "What?"), TELL, image="a.png"), STOPS, OK, OK, WRONG),
    "marker, no image": (talk(ASK, TELL, image=[]), STOPS, WRONG, STOPS, STOPS),
    "marker in an answer": (talk(ASK, ("gpt", "<image> A cat."), image="a.png"), STOPS, STOPS, STOPS, WRONG),
    "ends with the user": (talk(ASK, TELL, ("human", "And?"), image="a.png"), DROPPED, WRONG, OK, WRONG),
    "starts with the assistant": (talk(TELL, ASK, TELL, image="a.png"), DROPPED, WRONG, OK, WRONG),
    "human and gpt under role": (
        messages(("human", "<image>What?"), ("gpt", "A cat."), images=["a.png"]),
        OK,  # with the tags that say so, which the guide of a run writes; dropped with others
        OK,
        OK,  # in the export, which has TRL's words; it stops the run as it is
        STOPS,
    ),
    "empty messages": (messages(images=[]), DROPPED, DROPPED, WRONG, STOPS),
    "system turn": (talk(("system", "Be kind."), ASK, TELL, image="a.png"), OK, OK, OK, STOPS),
    "extra key in a turn": (
        {"conversations": [{"from": "human", "value": "Hi", "n": 1}, {"from": "gpt", "value": "Hi"}]},
        OK,
        OK,
        OK,
        OK,
    ),
}
NAMES = ("llamafactory", "ms-swift", "trl", "llava")


def faults(trainer, record):
    pool = open_pool([record], images="/")
    return faults_for(trainer, view_record(record_fields(json.dumps(record).encode()), pool.record_format))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", MEASURED)
def test_as_measured(row, name):
    record, *effects = MEASURED[row]
    found = faults(name, record)
    assert {fault.effect for fault in found} == {effects[NAMES.index(name)]} - {OK}
    assert all(fault.effect in get_args(Effect) and fault.detail and fault.kind.isidentifier() for fault in found)


def test_every_trainer_has_rules():
    assert set(NAMES) == set(TRAINERS)
    assert all(effect_of(reason, name) in get_args(Effect) for reason in Reason for name in NAMES)


@pytest.mark.parametrize(
    ("reason", "effects"),
    [
        (Reason.IMAGE_MISSING, [STOPS, "replaced", STOPS, STOPS]),
        (Reason.IMAGE_UNREADABLE, [STOPS, "replaced", STOPS, STOPS]),
        (Reason.TOO_LONG, [STOPS, "replaced", STOPS, WRONG]),
        (Reason.IMAGE_TOO_LARGE, ["skipped"] * 4),  # a limit of scalselect
    ],
)
def test_rows_that_are_skipped_have_the_effect_that_the_trainer_has_on_them(reason, effects):
    assert [effect_of(reason, name) for name in NAMES] == effects
    assert effect_of(reason, None) == "skipped"


def test_a_row_without_memory_stops_scalselect_itself():
    assert {effect_of(Reason.OUT_OF_MEMORY, name) for name in (None, *NAMES)} == {STOPS}


def test_a_null_among_images():
    record = messages(("user", "<image>What?"), ("assistant", "A cat."), images=[None])
    assert [(fault.kind, fault.effect) for fault in faults("llamafactory", record)] == [("image_null", STOPS)]
    assert [(fault.kind, fault.effect) for fault in faults("ms-swift", record)] == [("image_null", "replaced")]


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (talk(ASK, ASK, image="a.png"), "roles_not_alternating"),
        (talk(ASK, TELL, TELL, ("human", "?"), image="a.png"), "roles_not_alternating"),
        (talk(ASK, ("system", "late"), image="a.png"), "roles_not_alternating"),
        (talk(("system", "alone")), "empty_conversation"),
        (talk(ASK, ("narrator", "A cat."), image="a.png"), "role_not_known"),
        (talk(ASK, TELL, ("user", "?"), TELL, image="a.png"), "role_not_known"),  # and human: one word is taken
        (talk(ASK, TELL, ("human", "?"), image="a.png"), "ends_with_user"),
    ],
)
def test_what_llamafactory_drops(record, kind):
    assert [(fault.kind, fault.effect) for fault in faults("llamafactory", record)] == [(kind, "dropped")]


def test_a_row_that_is_dropped_stops_nothing():
    """LLaMA-Factory leaves such a row out before it counts its markers."""
    record = talk(("human", "<image><image>"), TELL, ("human", "?"), image="a.png")
    assert [fault.effect for fault in faults("llamafactory", record)] == ["dropped"]


def test_tool_turns_take_the_places_of_user_and_assistant():
    record = talk(ASK, ("function_call", "{}"), ("observation", "1"), TELL, image="a.png")
    assert faults("llamafactory", record) == []


@pytest.mark.parametrize(
    "record",
    [
        messages(("user", "<image>?"), ("assistant", "call"), ("tool", "1"), ("assistant", "b"), images=["a.png"]),
        talk(("user", "<image>?"), ("assistant", "A cat."), image="a.png"),
        talk(ASK, ("bot", "A cat."), image="a.png"),
    ],
)
def test_llamafactory_takes_the_words_that_its_tags_are_written_for(record):
    assert faults("llamafactory", record) == []


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("", "image_empty"),
        ("data:image/png;base64,AAAA", "image_in_text"),
        ({"bytes": "AAAA", "path": "a.png"}, "image_in_text"),
        (["data:image/png;base64,AAAA"], "image_in_text"),
    ],
)
def test_llamafactory_wants_names_of_files_in_json(image, kind):
    asked = ("human", "Hi") if image == "" else ASK
    found = faults("llamafactory", talk(asked, TELL, image=image))
    assert [(fault.kind, fault.effect) for fault in found] == [(kind, STOPS)]


def test_bytes_of_a_table_are_no_text():
    """Parquet with images as objects of bytes and path was read by LLaMA-Factory."""
    record = talk(ASK, TELL, image=[{"bytes": {"embedded": 0}, "path": "a.png"}])
    assert faults("llamafactory", record) == []


def test_content_parts():
    parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
    whole = messages(("user", parts), ("assistant", "A cat."), images=["a.png"])
    assert faults("trl", whole) == []
    assert [fault.kind for fault in faults("llamafactory", whole)] == ["content_parts"]
    without = messages(("user", parts[1:]), ("assistant", "A cat."), images=["a.png"])
    assert faults("trl", without) == []  # the export puts the image in front


def test_llava_reads_one_path_under_image():
    assert [fault.kind for fault in faults("llava", talk(ASK, TELL, images=["a.png"]))] == ["image_key_not_read"]
    assert faults("llava", talk(("human", "Hi"), TELL, images=[])) == []
    twice = talk(ASK, TELL, ("human", "<image>Again?"), TELL, image="a.png")
    assert [(fault.kind, fault.effect) for fault in faults("llava", twice)] == [("marker_twice", WRONG)]
    same_turn = talk(("human", "<image><image>What?"), TELL, image="a.png")
    assert faults("llava", same_turn) == []  # several markers of a turn become one


def test_roles_are_those_of_the_dataset_info_where_there_is_one():
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "you"}
    entry = {"formatting": "sharegpt", "columns": {"messages": "talk", "images": "pics"}, "tags": tags}
    record_format = format_from_mapping(entry)

    def found(*roles):
        record = {"talk": [{"who": role, "says": "<image>" * (number == 0)} for number, role in enumerate(roles)]}
        fields = record_fields(json.dumps({**record, "pics": ["a.png"]}).encode())
        return [(fault.kind, fault.effect) for fault in faults_for("llamafactory", view_record(fields, record_format))]

    assert found("me", "you") == []
    assert found("me", "gpt") == [("role_not_known", "dropped")]
    assert found("system", "me", "you") == [("role_not_known", "dropped")]  # tags without a system_tag

"""Every record format is recognised by looking, read under its name, and described in words."""

import json
from pathlib import Path

import pytest

from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_formats import FORMATS
from scalselect.errors import DatasetError
from scalselect.records import ImagePart, Sample, UnusableRecord

USER = {"role": "user", "content": "<image>What?"}
ANSWER = {"role": "assistant", "content": "A cat."}
RECORDS = {
    "llava": {
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}],
        "image": "a.png",
    },
    "messages": {"messages": [USER, ANSWER], "images": ["a.png"]},
    "alpaca": {"instruction": "<image>What?", "input": "", "output": "A cat.", "images": ["a.png"]},
    "query-response": {"query": "<image>What?", "response": "A cat.", "images": ["a.png"]},
    "prompt-completion": {"prompt": [USER], "completion": [ANSWER], "images": ["a.png"]},
}
KEYS = {
    "llava": "LLaVA records (`conversations`, `image`)",
    "messages": "Message records (`messages`, `images`)",
    "alpaca": "Alpaca records (`instruction`, `output`, `images`)",
    "query-response": "Query and response records (`query`, `response`, `images`)",
    "prompt-completion": "Prompt and completion records (`prompt`, `completion`, `images`)",
}


def spoken(sample):
    assert isinstance(sample, Sample), sample
    return [
        (turn.role, *(part.index if isinstance(part, ImagePart) else part.text for part in turn.parts))
        for turn in sample.turns
    ]


def only(record, **options):
    (sample,) = open_pool([record], **options).read(0, 1)
    return sample


@pytest.mark.parametrize("name", RECORDS)
def test_each_format_is_recognised_and_read_alike(name):
    pool = open_pool([RECORDS[name]])
    (sample,) = pool.read(0, 1)
    assert pool.format == name
    assert pool.describe() == f"{KEYS[name]} in a Python list: 1 row"
    assert spoken(sample) == [("user", 0, "What?"), ("assistant", "A cat.")]
    assert [image.text for image in sample.images] == ["a.png"]
    assert sample == only(RECORDS[name], format=name)
    assert sample.text_sha256 == only(RECORDS["llava"]).text_sha256


def test_sharegpt_is_another_name_of_llava():
    assert open_pool([RECORDS["llava"]], format="sharegpt").format == "llava"


@pytest.mark.parametrize("name", RECORDS)
def test_keys_that_a_table_fills_with_null_do_not_mislead(name):
    empty = {key: None for record in RECORDS.values() for key in record}
    pool = open_pool([{**empty, **RECORDS[name]}])
    assert pool.format == name
    assert spoken(next(iter(pool.read(0, 1)))) == [("user", 0, "What?"), ("assistant", "A cat.")]


def test_conversation_is_another_key_of_messages():
    pool = open_pool([{"conversation": [USER, ANSWER], "images": "a.png", "channel": "web"}])
    assert pool.format == "messages"
    assert spoken(next(iter(pool.read(0, 1))))[0] == ("user", 0, "What?")


def test_a_turn_may_be_a_whole_round():
    rounds = [{"human": "<image>What?", "assistant": "A cat."}, {"user": "Sure?", "gpt": "Yes.", "role": None}]
    sample = only({"conversation": rounds, "images": "a.png", "system": "s"})
    assert [role for role, *_ in spoken(sample)] == ["system", "user", "assistant", "user", "assistant"]
    assert spoken(sample)[1:3] == [("user", 0, "What?"), ("assistant", "A cat.")]
    row = only({"conversation": [{"human": "What?"}]})
    assert (row.reason, row.detail) == ("unknown_role", "turn 1 has neither `from` nor `role`")


@pytest.mark.parametrize("name", ["llava", "messages", "alpaca", "query-response"])
def test_a_system_prompt_beside_the_turns_is_read(name):
    sample = only({**RECORDS[name], "system": "Be brief."})
    assert spoken(sample)[0] == ("system", "Be brief.")
    for empty in (None, ""):
        assert spoken(only({**RECORDS[name], "system": empty}))[0][0] == "user"
    assert only({**RECORDS[name], "system": 5}).reason == "invalid_record"


def test_a_question_is_instruction_and_input_on_a_line_of_its_own():
    record = {"instruction": "Answer:", "input": "<image>What?", "output": "A cat.", "images": ["a.png"]}
    assert spoken(only(record))[0] == ("user", "Answer:", 0, "What?")
    record = {"instruction": "Answer:", "input": "What?", "output": None}
    assert spoken(only(record, format="alpaca")) == [("user", "Answer:\nWhat?")]
    record = {"instruction": None, "input": "What?", "output": ""}
    assert spoken(only(record, format="alpaca")) == [("user", "What?"), ("assistant",)]


@pytest.mark.parametrize("name", ["alpaca", "query-response"])
def test_earlier_rounds_come_first(name):
    sample = only({**RECORDS[name], "history": [["a", "b"], ["<image>c", "d"]], "images": ["x", "y"]})
    assert spoken(sample) == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", 0, "c"),
        ("assistant", "d"),
        ("user", 1, "What?"),
        ("assistant", "A cat."),
    ]
    for none in (None, [], "", [[None, None]]):
        assert len(only({**RECORDS[name], "history": none}).turns) == 2


@pytest.mark.parametrize(
    ("name", "change", "reason", "words"),
    [
        ("alpaca", {"history": [["a"]]}, "invalid_record", "round 1 of `history` is no pair"),
        ("alpaca", {"history": [["a", "b"], ["a", 5]]}, "invalid_record", "round 2 of `history` is no text: 5"),
        ("alpaca", {"history": {"a": "b"}}, "invalid_record", "`history` is no list of rounds"),
        ("alpaca", {"output": ["A cat."]}, "invalid_record", "`output` is no text"),
        ("alpaca", {"instruction": 5}, "invalid_record", "`instruction` is no text: 5"),
        ("alpaca", {"instruction": "", "output": None, "images": []}, "no_usable_turn", "no turn has any text"),
        ("query-response", {"videos": ["a.mp4"]}, "unsupported_content", "`videos`"),
        ("query-response", {"response": {"text": "x"}}, "invalid_record", "`response` is no text"),
        ("prompt-completion", {"prompt": 5}, "invalid_record", "`prompt` is no text: 5"),
        ("prompt-completion", {"completion": [{"role": "x"}]}, "unknown_role", "turn 2"),
        ("messages", {"images": ["a.png", "b.png"]}, "marker_mismatch", "1 `<image>` markers, 2 images"),
        ("messages", {"messages": {"role": "user"}}, "invalid_record", "`messages` is no list of turns"),
        (
            "messages",
            {"messages": '[{"role": "user"}]'},
            "invalid_record",
            "JSON inside a string? Store the list itself",
        ),
        ("messages", {"images": [{"bytes": None, "path": None}]}, "invalid_record", "`bytes` and `path` are both null"),
        ("messages", {"images": [{"name": "a"}]}, "invalid_record", "an object with neither `bytes` nor `path`"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(name, change, reason, words):
    row = only({**RECORDS[name], **change}, format=name)
    assert isinstance(row, UnusableRecord)
    assert row.reason == reason
    assert words in row.detail


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_another_format_is_no_usable_turn(name):
    row = only({"id": 7, "text": "x"}, format=name)
    assert (row.reason, row.identity.id) == ("no_usable_turn", "7")


def test_prompt_and_completion_may_be_texts():
    sample = only({"prompt": "<image>What?", "completion": "A cat.", "images": ["a.png"]})
    assert spoken(sample) == [("user", 0, "What?"), ("assistant", "A cat.")]
    mixed = {"prompt": [{"role": "system", "content": "s"}, USER], "completion": "A cat.", "images": ["a.png"]}
    assert [role for role, *_ in spoken(only(mixed))] == ["system", "user", "assistant"]


def test_trl_content_parts_with_images_in_a_column():
    content = [
        {"index": None, "text": "What?", "type": "text"},
        {"index": 0, "text": None, "type": "image"},
    ]
    record = {"messages": [{"role": "user", "content": content}, ANSWER], "images": [{"bytes": "AAAA", "path": None}]}
    sample = only(json.loads(json.dumps(record)))
    assert spoken(sample)[0] == ("user", "What?", 0)


def test_rejected_answers_are_carried_along_and_not_read():
    more = {"rejected_response": "A dog.", "rejected": ANSWER, "chosen": ANSWER}
    for record in RECORDS.values():
        assert only({**record, **more}).turns == only(record).turns
    with pytest.raises(DatasetError, match="pairs of chosen and rejected answers are not read by themselves"):
        open_pool([{"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}])


def test_a_pool_in_no_format_is_told_what_is_wanted():
    with pytest.raises(DatasetError) as caught:
        open_pool([{"instruction": "What?", "answer": "A cat."}])
    assert "keys instruction, answer (wanted: turns under `conversations` or `messages`" in str(caught.value)
    for pair in ("`instruction` and `output`", "`query` and `response`", "`prompt` and `completion`"):
        assert f"or {pair}" in str(caught.value)


def test_the_examples_of_the_page_are_recognised_each_as_what_it_is():
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    text = page.partition("One record of each")[2].partition("```json\n")[2].partition("```")[0].strip()
    names, decoder = [], json.JSONDecoder()
    while text:
        record, end = decoder.raw_decode(text)
        pool = open_pool([record])
        names.append(pool.format)
        assert spoken(next(iter(pool.read(0, 1))))[-1] == ("assistant", "White.")
        text = text[end:].strip()
    assert names == list(FORMATS)

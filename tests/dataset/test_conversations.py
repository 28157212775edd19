"""Markers cut texts where method stage 0 says, roles are understood, and what cannot be used has its reason."""

import json
import time

import pytest

from scalselect.dataset.conversations import hash_of_turns, read_conversation
from scalselect.errors import SampleError
from scalselect.records import ImagePart, TextPart


def conversation(*texts, images, **options):
    turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]
    return read_conversation(turns, ["a.png"] * images, **options)


def parts(read):
    return [
        (turn.role, [part.index if isinstance(part, ImagePart) else part.text for part in turn.parts])
        for turn in read.turns
    ]


@pytest.mark.parametrize(
    ("texts", "images", "expected"),
    [
        (["<image>\nWhat?", "A cat."], 1, [[0, "What?"], ["A cat."]]),
        (["What? <image>", "A cat."], 1, [["What?", 0], ["A cat."]]),
        ([" a \n<image>\t b ", " c "], 1, [[" a", 0, "b "], [" c "]]),
        (["<image>", "x"], 1, [[0], ["x"]]),
        (["<image>", " x "], 1, [[0], [" x "]]),
        (["<image><image>x", "y"], 2, [[0, 1, "x"], ["y"]]),
        (["<image> \n <image>x", "y"], 2, [[0, 1, "x"], ["y"]]),
        (["a<image>b<image>c", "y"], 2, [["a", 0, "b", 1, "c"], ["y"]]),
        (["<image>a", "b", "<image>c", "d"], 2, [[0, "a"], ["b"], [1, "c"], ["d"]]),
        (["a", "here: <image>", "b", "c"], 1, [["a"], ["here:", 0], ["b"], ["c"]]),
        (["a", ""], 0, [["a"], []]),
        (["  ", "x"], 0, [["  "], ["x"]]),
        (["<Image> < image>", "x"], 0, [["<Image> < image>"], ["x"]]),
        (["<image<image>>", "x"], 1, [["<image", 0, ">"], ["x"]]),
        (["only the question <image>"], 1, [["only the question", 0]]),
    ],
)
def test_markers_cut_texts(texts, images, expected):
    read = conversation(*texts, images=images)
    assert [turn for _, turn in parts(read)] == expected
    assert not read.images_in_front


def test_markers_of_a_system_turn_count():
    read = read_conversation(
        [{"from": "system", "value": "s <image>"}, {"from": "human", "value": "<image> u"}], ["a.png"] * 2
    )
    assert parts(read) == [("system", ["s", 0]), ("user", [1, "u"])]


@pytest.mark.parametrize(("markers", "images"), [(1, 0), (1, 2), (3, 2), (2, 1)])
def test_mismatch_names_both_numbers(markers, images):
    with pytest.raises(SampleError) as caught:
        conversation("<image>" * markers + "x", "y", images=images)
    assert caught.value.reason == "marker_mismatch"
    assert f"{markers} `<image>` markers, {images} images" in caught.value.detail


def test_without_a_marker_images_go_in_front_of_the_first_user_turn():
    read = read_conversation(
        [{"from": "system", "value": "s"}, {"from": "gpt", "value": "hi"}, {"from": "human", "value": " u "}],
        ["a", "b"],
    )
    assert parts(read) == [("system", ["s"]), ("assistant", ["hi"]), ("user", [0, 1, " u "])]
    assert read.images_in_front


def test_without_a_user_turn_the_images_get_one():
    read = read_conversation([{"from": "system", "value": "s"}, {"from": "gpt", "value": "caption"}], ["a.png"] * 1)
    assert parts(read) == [("system", ["s"]), ("user", [0]), ("assistant", ["caption"])]
    assert parts(read_conversation([{"from": "system", "value": "s"}], ["a.png"] * 1)) == [
        ("system", ["s"]),
        ("user", [0]),
    ]


def test_turn_start_moves_images_inside_their_turn_only():
    read = conversation("a <image> b <image>", "c <image>", images=3, image_position="turn-start")
    assert parts(read) == [("user", [0, 1, "a b"]), ("assistant", [2, "c"])]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"),
        ("user", "user"),
        ("gpt", "assistant"),
        ("assistant", "assistant"),
        ("bot", "assistant"),
        ("function_call", "assistant"),
        ("tool_call", "assistant"),
        ("system", "system"),
        ("tool", "tool"),
        ("observation", "tool"),
        ("observations", "tool"),
        ("function_response", "tool"),
        ("tool_response", "tool"),
    ],
)
def test_roles_and_both_pairs_of_keys(name, role):
    for role_key, content_key in (("from", "value"), ("role", "content")):
        assert parts(read_conversation([{role_key: name, content_key: "x"}], [])) == [(role, ["x"])]


def test_pairs_of_keys_may_change_from_turn_to_turn():
    turns = [{"from": "human", "value": "x"}, {"role": "assistant", "content": "y", "from": "tool"}]
    assert parts(read_conversation(turns, [])) == [("user", ["x"]), ("assistant", ["y"])]


def test_null_keys_that_tables_add_are_no_pair():
    turns = [{"from": None, "value": None, "role": "user", "content": "x"}, {"role": None, "from": "gpt", "value": "y"}]
    assert parts(read_conversation(turns, [])) == [("user", ["x"]), ("assistant", ["y"])]


def test_a_call_of_a_tool_needs_no_words():
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    assert parts(read_conversation(turns, [])) == [("user", ["x"]), ("assistant", [])]
    for without in ({"tool_calls": None}, {"tool_calls": []}):
        with pytest.raises(SampleError, match="`content` of turn 2 is no text"):
            read_conversation([turns[0], {"role": "assistant", "content": None, **without}], [])


def test_a_system_prompt_beside_the_turns_is_a_turn_in_front_unless_there_is_one():
    spoken = [{"role": "user", "content": "<image>x"}]
    read = read_conversation(spoken, ["a"], system="be brief")
    assert parts(read) == [("system", ["be brief"]), ("user", [0, "x"])]
    own = [{"role": "system", "content": "own"}, *spoken]
    assert parts(read_conversation(own, ["a"], system="be brief"))[0] == ("system", ["own"])
    assert len(read_conversation(spoken, ["a"], system="").turns) == 1


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"from": "narrator", "value": "x"}, "unknown_role"),
        ({"from": "Human", "value": "x"}, "unknown_role"),
        ({"from": None, "value": "x"}, "unknown_role"),
        ({"from": ["human"], "value": "x"}, "unknown_role"),
        ({"value": "x"}, "unknown_role"),
        ({"from": "human"}, "invalid_record"),
        ({"from": "human", "value": None}, "invalid_record"),
        ({"from": "human", "value": 5}, "invalid_record"),
        ({"from": "human", "value": "\ud83d"}, "invalid_record"),
        ({"from": "human", "value": [{"type": "video", "video": "x.mp4"}]}, "unsupported_content"),
        ({"from": "human", "value": {"text": "x"}}, "unsupported_content"),
        ("a text", "invalid_record"),
        (None, "invalid_record"),
    ],
)
def test_unusable_turns_have_their_reason(turn, reason):
    with pytest.raises(SampleError) as caught:
        read_conversation([{"from": "human", "value": "fine"}, turn], [])
    assert caught.value.reason == reason
    assert "turn 2" in caught.value.detail


@pytest.mark.parametrize(
    ("texts", "images"),
    [
        ([], 0),
        (["", ""], 0),
        (["", " \n\u00a0"], 0),
        (["<image>"], 1),
        (["<image>\n", ""], 1),
        (["", "\t"], 2),
        ([" <image> \n <image>", "  "], 2),
    ],
)
@pytest.mark.parametrize("image_position", ["record", "turn-start"])
def test_nothing_said_is_no_usable_turn_with_images_or_without(texts, images, image_position):
    with pytest.raises(SampleError) as caught:
        conversation(*texts, images=images, image_position=image_position)
    assert caught.value.reason == "no_usable_turn"
    assert caught.value.detail == ("no turn has any text" if texts else "the conversation is empty")


def test_ten_megabytes_of_markers_take_linear_time():
    count = 1_500_000
    began = time.process_time()
    read = conversation("<image>" * count, "x", images=count)
    assert len(read.turns[0].parts) == count
    with pytest.raises(SampleError):
        conversation("<image> " * count, "x", images=1)
    assert time.process_time() - began < 30


def test_hash_tells_roles_texts_and_places_apart():
    base = conversation("<image> a", "b", images=1)
    different = [
        conversation("<image> a", "B", images=1),
        conversation("a <image>", "b", images=1),
        conversation("<image> a b", images=1),
        read_conversation([{"from": "gpt", "value": "<image> a"}, {"from": "human", "value": "b"}], ["a.png"] * 1),
        conversation("a", "b", images=0),
    ]
    hashes = {hash_of_turns(read.turns) for read in [base, *different]}
    assert len(hashes) == 6
    again = read_conversation(
        [{"role": "user", "content": "<image>\n a"}, {"role": "bot", "content": "b"}], ["a.png"] * 1
    )
    assert hash_of_turns(again.turns) == hash_of_turns(base.turns)
    assert base.turns[0].parts == (ImagePart(0), TextPart("a"))
    assert len(json.dumps(hash_of_turns(base.turns))) == 66

"""Content in parts: texts and images in order, whatever keys hold them, with nulls that tables add."""

import pytest

from scalselect.dataset.conversations import read_conversation
from scalselect.errors import SampleError
from scalselect.records import ImagePart

DATA_URL = "data:image/png;base64,AAAA"


def text(value, **extra):
    return {"type": "text", "text": value, **extra}


def image(**payload):
    return {"type": "image", **payload}


def read(*contents, images=(), **options):
    turns = [{"role": ("user", "assistant")[number % 2], "content": each} for number, each in enumerate(contents)]
    return read_conversation(turns, list(images), **options)


def parts(conversation):
    return [
        [part.index if isinstance(part, ImagePart) else part.text for part in turn.parts] for turn in conversation.turns
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([text("x")], ["x"]),
        ([text(" x "), text("y")], [" x ", "y"]),
        (["x", text("y")], ["x", "y"]),
        ([image(), text("x")], [0, "x"]),
        ([text("x"), image(), text(" y")], ["x", 0, " y"]),
        ([image(image=None, text=None, index=0), text("x", image=None, index=None)], [0, "x"]),
        ([text("a <image> b")], ["a", 0, "b"]),
        ([{"type": "text", "value": "x"}, image()], ["x", 0]),
        ([{"type": "text", "text": None, "value": "x"}, image()], ["x", 0]),
    ],
)
def test_parts_stand_in_order_and_take_the_images_of_the_record(content, expected):
    conversation = read(content, "answer", images=["a.png"] if 0 in expected else [])
    assert parts(conversation)[0] == expected
    assert conversation.images == (("a.png",) if 0 in expected else ())
    assert not conversation.images_in_front


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (image(image="a.png"), "a.png"),
        (image(url="a.png"), "a.png"),
        (image(path="a.png", image=None), "a.png"),
        (image(value="a.png"), "a.png"),
        (image(image=DATA_URL), DATA_URL),
        (image(base64="AAAA"), {"bytes": "AAAA", "path": None}),
        (image(bytes="AAAA", path="a.png"), {"bytes": "AAAA", "path": "a.png"}),
        (image(image={"bytes": {"embedded": 3}, "path": None}), {"bytes": {"embedded": 3}, "path": None}),
        (image(image={"bytes": None, "path": "a.png"}), {"bytes": None, "path": "a.png"}),
        ({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}, DATA_URL),
        ({"type": "image_url", "image_url": "a.png", "text": None}, "a.png"),
        ({"type": "image_url", "value": "a.png"}, "a.png"),
        ({"type": "image_url", "value": {"url": "a.png"}}, "a.png"),
    ],
)
def test_a_part_may_bring_its_image(part, expected):
    conversation = read([text("What?"), part], "answer")
    assert parts(conversation)[0] == ["What?", 0]
    assert conversation.images == (expected,)


def test_images_of_parts_and_of_the_record_are_counted_as_they_stand():
    conversation = read(
        [image(image="own.png"), text("a <image> b"), image()],
        [text("c"), image(image="last.png")],
        images=["first", "second"],
    )
    assert parts(conversation) == [[0, "a", 1, "b", 2], ["c", 3]]
    assert conversation.images == ("own.png", "first", "second", "last.png")


@pytest.mark.parametrize("images", [["x"], ["x", "y", "z"], []])
def test_images_of_the_record_must_have_their_places(images):
    with pytest.raises(SampleError) as caught:
        read([image(), image(), image(image="own.png"), text("a")], images=images)
    assert caught.value.reason == "marker_mismatch"
    assert f"2 `<image>` markers, {len(images)} images beside the 1 that content parts bring" in caught.value.detail


def test_images_that_parts_bring_leave_no_place_for_others():
    with pytest.raises(SampleError, match="0 `<image>` markers, 1 images beside the 1"):
        read([image(image="own.png"), text("a")], images=["other.png"])


def test_turn_start_moves_images_of_parts():
    conversation = read([text("a"), image(image="own.png"), text("b")], image_position="turn-start")
    assert parts(conversation) == [[0, "a b"]]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "video", "video": "x.mp4"}, "unsupported_content"),
        ({"type": "audio", "audio": "x.wav"}, "unsupported_content"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "unsupported_content"),
        ({"type": "input_audio"}, "unsupported_content"),
        ({"type": None, "text": "x"}, "unsupported_content"),
        ({"type": ["text"], "text": "x"}, "unsupported_content"),
        ({"text": "x"}, "unsupported_content"),
        ({"type": "text"}, "invalid_record"),
        ({"type": "text", "text": 5}, "invalid_record"),
        ({"type": "text", "text": ["x"]}, "invalid_record"),
        ({"type": "text", "text": "\ud800"}, "invalid_record"),
        ({"type": "image", "image": 5}, "invalid_record"),
        ({"type": "image", "image": ""}, "invalid_record"),
        ({"type": "image", "image": ["a.png"]}, "invalid_record"),
        ({"type": "image", "image": {"bytes": [1]}}, "invalid_record"),
        ({"type": "image", "image": {"bytes": {"embedded": -1}}}, "invalid_record"),
        ({"type": "image", "image": {"bytes": {"embedded": True}}}, "invalid_record"),
        ({"type": "image", "image": {"bytes": None, "path": None}}, "invalid_record"),
        ({"type": "image", "image": {"bytes": "AAAA", "path": 5}}, "invalid_record"),
        ({"type": "image", "base64": 5}, "invalid_record"),
        ({"type": "image_url"}, "invalid_record"),
        ({"type": "image_url", "image_url": {"url": 5}}, "invalid_record"),
        ({"type": "image_url", "image_url": {"detail": "low"}}, "invalid_record"),
        (5, "invalid_record"),
        (None, "invalid_record"),
        ([], "invalid_record"),
    ],
)
def test_parts_that_cannot_be_used_have_their_reason_and_place(part, reason):
    with pytest.raises(SampleError) as caught:
        read([text("x"), part])
    assert caught.value.reason == reason
    assert "part 2 of `content` of turn 1" in caught.value.detail

"""Whatever a record holds, it becomes a sample or a row with a reason; what is written well is read as written."""

import base64
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalselect.dataset.opening import open_pool
from scalselect.dataset.record_formats import FORMATS
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Sample, UnusableRecord

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = st.sampled_from(
    [
        "conversations",
        "conversation",
        "messages",
        "instruction",
        "input",
        "output",
        "query",
        "response",
        "history",
        "prompt",
        "completion",
        "system",
        "image",
        "images",
        "videos",
        "audio",
        "id",
        "tools",
        "channel",
        "chosen",
    ]
)
WORDS = st.sampled_from(
    [
        "",
        "x",
        " y ",
        "<image>",
        "a <image> b",
        "user",
        "human",
        "gpt",
        "tool",
        "system",
        "text",
        "image",
        "image_url",
        "video",
        "a.png",
        "s3://b/a.png",
        "http://x.org/a",
        "data:image/png;base64,AAAA",
        "data:,x",
        "AAAA",
        "file:///x",
    ]
)
MEMBERS = st.sampled_from(
    [
        "from",
        "value",
        "role",
        "content",
        "type",
        "text",
        "image",
        "image_url",
        "url",
        "bytes",
        "path",
        "embedded",
        "base64",
        "tool_calls",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4), max_leaves=12
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": WORDS | VALUES, "content": WORDS | VALUES}, optional={"from": WORDS, "value": VALUES}
    ),
    max_size=4,
)
RECORDS = st.dictionaries(KEYS, VALUES | TURNS, max_size=6)


@MANY
@given(record=RECORDS, name=st.sampled_from([*FORMATS]), position=st.sampled_from(["record", "turn-start"]))
def test_nothing_but_a_reason_comes_of_odd_records(record, name, position):
    pool = open_pool([record], format=name, image_position=position)
    (row,) = pool.read(0, 1)
    assert isinstance(row, (Sample, UnusableRecord))
    if isinstance(row, UnusableRecord):
        assert row.detail
        return
    places = [part.index for turn in row.turns for part in turn.parts if isinstance(part, ImagePart)]
    if row.images_in_front:
        assert sorted(places) == list(range(len(row.images)))
    else:
        assert places == list(range(len(row.images)))  # processors take images in the order of their places
    for image in row.images:
        assert image.text
        image.text.encode()
        if image.embedded is not None:
            try:
                assert isinstance(pool.embedded_image(image), bytes)
            except SampleError as error:
                assert error.reason in {"image_missing", "image_unreadable"}  # noqa: PT017


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: "<image>" not in text)
UNREAD = st.dictionaries(st.text(max_size=6).map("x".__add__), VALUES, max_size=3)


@MANY
@given(rounds=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), system=TEXTS, unread=UNREAD)
def test_one_conversation_in_every_format_is_the_same_sample(rounds, system, unread):
    spoken = [("user" if side == 0 else "assistant", text) for both in rounds for side, text in enumerate(both)]
    turns = [{"role": role, "content": text, **unread} for role, text in spoken]
    parts = [{"role": role, "content": [{"type": "text", "text": text, "image": None}]} for role, text in spoken]
    (*earlier, (question, answer)) = rounds
    asked = {"history": [list(both) for both in earlier], "system": system}
    records = [
        {"conversations": [{"from": {"user": "human"}.get(role, "gpt"), "value": text} for role, text in spoken]},
        {"messages": turns},
        {"messages": parts},
        {"conversation": turns},
        {"instruction": question, "input": None, "output": answer, **asked},
        {"instruction": "", "input": question, "output": answer, **asked},
        {"query": question, "response": answer, **asked},
        {"prompt": [{"role": "system", "content": system}, *turns[:-1]], "completion": turns[-1:]},
    ]
    for record in records[:4]:
        record["system"] = system
    if not system:
        records[-1]["prompt"].pop(0)
    read = [next(iter(open_pool([{**unread, **record}]).read(0, 1))) for record in records]
    kinds = {type(row) for row in read}
    if kinds == {UnusableRecord}:
        assert {row.reason for row in read} == {"no_usable_turn"}
        return
    assert kinds == {Sample}
    assert {row.turns for row in read} == {read[0].turns}
    assert {row.text_sha256 for row in read} == {read[0].text_sha256}
    said = [(turn.role, "".join(part.text for part in turn.parts)) for turn in read[0].turns]
    assert said == ([("system", system)] if system else []) + spoken


@MANY
@given(contents=st.lists(st.binary(max_size=30), min_size=1, max_size=4), ways=st.data())
def test_bytes_come_back_in_every_way_of_writing_them(contents, ways):
    parts, listed = [], []
    for content in contents:
        text = base64.b64encode(content).decode()
        url = f"data:image/png;base64,{text}"
        own = [
            {"type": "image", "image": url},
            {"type": "image", "base64": text},
            {"type": "image", "image": {"bytes": text, "path": None}},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        way = ways.draw(st.integers(0, len(own) + 2))
        if way < len(own):
            parts.append(own[way])
        else:
            listed.append({"bytes": text, "path": "a.png"} if way == len(own) else url)
            parts.append({"type": "image"} if way == len(own) else {"type": "text", "text": "<image>"})
    record = {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "x"}]}], "images": listed}
    pool = open_pool([json.loads(json.dumps(record))])
    (sample,) = pool.read(0, 1)
    assert [pool.embedded_image(image) for image in sample.images] == contents

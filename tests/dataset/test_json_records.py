"""Files and lists are indexed to the exact bytes of each record, or refused with a reason a user can act upon."""

import json
import math
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import json_records, json_scanner
from scalselect.dataset.json_records import RecordFile, RecordList
from scalselect.errors import DatasetError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TRICKY = [{"a": '"]},[{\\"'}, {"\\": ["\\\\", "\n", {}]}, [], {}, "[", '"', -1.5e-7, None, [[[{"b": [1, 2]}]]]]


def file_of(tmp_path, content, name="pool.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def all_raw(records):
    return [records.raw(row) for row in range(len(records))]


@pytest.fixture
def no_fast_reader(monkeypatch):
    """Msgspec refuses every array, so the scanner has to find the records."""

    def refuse(*_arguments):
        raise json_records.msgspec.DecodeError("no")
        yield

    monkeypatch.setattr(json_records, "_decoded_bounds", refuse)


@given(st.lists(JSON_VALUES, min_size=1, max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
def test_scanner_and_fast_reader_find_the_same_offsets(tmp_path_factory, values, indent, ascii_only):
    text = " \n" + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\r\n"
    path = file_of(tmp_path_factory.mktemp("pool"), text.encode("utf-8", "replace"))
    records = RecordFile(path)
    start = text.encode("utf-8", "replace").index(b"[")
    scanned = list(json_scanner.array_bounds(path.read_bytes(), start))
    fast = list(json_records._decoded_bounds(records._data(), start))
    assert scanned == fast
    assert [json.loads(raw) for raw in all_raw(records)] == json.loads(path.read_bytes())


def test_scanner_reads_tricky_strings(tmp_path, no_fast_reader):
    records = RecordFile(file_of(tmp_path, json.dumps(TRICKY, indent=1)))
    assert [json.loads(raw) for raw in all_raw(records)] == TRICKY


def test_nan_infinity_and_lone_surrogates_do_not_refuse_a_file(tmp_path):
    written = [b'{"a": NaN}', b'{"a":-Infinity }', b'{"a": "\\ud83d"}', b'{"b" : 1}']
    records = RecordFile(file_of(tmp_path, b"[" + b" ,\n".join(written) + b"]"))
    assert all_raw(records) == written
    assert math.isnan(json.loads(records.raw(0))["a"])


@pytest.mark.parametrize("lines", [False, True])
def test_byte_order_mark_belongs_to_no_record(tmp_path, lines):
    content = b'{"a":1}\n{"a":2}\n' if lines else b'[{"a":1},{"a":2}]'
    records = RecordFile(file_of(tmp_path, b"\xef\xbb\xbf" + content))
    assert all_raw(records) == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("levels", [950, 100_000])
def test_deep_nesting_is_a_record_like_any_other(tmp_path, levels):
    deep = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    assert all_raw(RecordFile(file_of(tmp_path, b"[" + deep + b',{"b":1}]'))) == [deep, b'{"b":1}']


@pytest.mark.parametrize(
    ("content", "position", "following"),
    [
        (b'[{"a":1},{"a":2}', 16, "the file ends there"),
        (b'[{"a":1},{"a":', 14, "the file ends there"),
        (b'[{"a":1},{"a":"x', 16, "the file ends there"),
        (b'[{"a":1},"x', 9, "x"),
        (b'[{"a":1} {"a":2}]', 9, '{"a":2}]'),
        (b'[{"a":1},]', 9, "]"),
        (b'[{"a":1}]\n[{"a":2}]', 10, '[{"a":2}]'),
        (b'[{"a":1},{"a" 2}]', 14, "2}]"),
        ('[{"ä":1},{"ä" 2}]'.encode(), 16, "2}]"),
        (b'[{"a":[1}]', 8, "}]"),
        (b'[{"a":NaN},{"a":1}', 18, "the file ends there"),
        (b'[{"a":"two\nlines"}]', 10, "lines"),
        (b"[", 1, "the file ends there"),
    ],
)
def test_broken_array_names_the_byte_and_what_follows(tmp_path, content, position, following):
    with pytest.raises(DatasetError) as caught:
        RecordFile(file_of(tmp_path, content))
    assert f"at byte {position}:" in str(caught.value)
    assert following in str(caught.value)


def test_lines_are_records_whatever_they_hold(tmp_path):
    written = [b'{"a": 1}', b"no json", b'{"a"', b"[1]", b'{"b":"\xff"}', b'{"c":2}']
    content = b"\n \t\r\n" + b"\r\n\n".join(written[:3]) + b"\n  " + b"  \n".join(written[3:])
    records = RecordFile(file_of(tmp_path, content))
    assert records.container == "jsonl"
    assert all_raw(records) == written


def test_line_separators_inside_strings_are_text(tmp_path):
    written = ['{"a":"x\u2028y\x85z\x0c"}'.replace("\x0c", "\\f").encode(), b'{"a":2}']
    assert all_raw(RecordFile(file_of(tmp_path, b"\n".join(written)))) == written


@pytest.mark.parametrize("first", [b'{"a":', b'{"a": "x', b"// comment", b'{"a": [{"b"'])
def test_broken_first_line_is_a_row(tmp_path, first):
    records = RecordFile(file_of(tmp_path, first + b'\n{"a":1}\n{"a":2}\n'))
    assert all_raw(records) == [first, b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("indent", [0, 2])
def test_one_printed_object_is_refused(tmp_path, indent):
    value = {"id": 1, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    text = json.dumps(value, indent=indent)
    for content in (text, text[:-1]):
        if content is not text and indent == 0:
            continue  # an object broken and not indented might as well be broken lines
        with pytest.raises(DatasetError, match=r"one JSON object spread over several lines.*wanted: a JSON array"):
            RecordFile(file_of(tmp_path, content))


def test_object_with_whole_objects_on_its_lines_is_no_json_lines(tmp_path):
    content = '{\n"conversations": [\n{"from": "human", "value": "a"}\n]\n}\n'
    with pytest.raises(DatasetError, match="one JSON object spread over several lines"):
        RecordFile(file_of(tmp_path, content))


@pytest.mark.parametrize(
    "content", [b"id,image\n1,a.jpg\n", b"PK\x03\x04\x00\n\x00", b'{"a": 1', b'"text"', b"\xff\xfe[\0"]
)
def test_anything_else_is_refused_showing_its_beginning(tmp_path, content):
    with pytest.raises(DatasetError, match="neither a JSON array nor JSON Lines") as caught:
        RecordFile(file_of(tmp_path, content))
    assert repr(content[:24]) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf", b"[]", b"[ \n ] "])
def test_nothing_to_choose_from_is_refused(tmp_path, content):
    with pytest.raises(DatasetError, match=r"empty|no record"):
        RecordFile(file_of(tmp_path, content))


def test_missing_file_names_a_near_one(tmp_path):
    file_of(tmp_path, "[]", "llava_mix665k.json")
    with pytest.raises(DatasetError, match=r"does not exist: .*llava_mix656k.json.*`llava_mix665k.json`"):
        RecordFile(tmp_path / "llava_mix656k.json")
    with pytest.raises(DatasetError, match="nor does its folder"):
        RecordFile(tmp_path / "nowhere" / "pool.json")
    with pytest.raises(DatasetError, match="does not exist"):
        RecordFile(tmp_path / "a\0b")


def test_folder_and_pipe_are_refused(tmp_path):
    file_of(tmp_path, "[]", "pool.jsonl")
    with pytest.raises(DatasetError, match=r"is a folder: .*it holds pool.jsonl"):
        RecordFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="no regular file"):
        RecordFile(tmp_path / "pipe")


def test_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = file_of(tmp_path, "[1]")

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(DatasetError, match=r"cannot be read: .*Permission denied"):
        RecordFile(path)


def test_pickled_records_open_the_file_again_and_notice_a_change(tmp_path):
    path = file_of(tmp_path, '[{"a":1},{"a":2}]')
    records = RecordFile(path)
    frozen = pickle.dumps(records)
    assert all_raw(pickle.loads(frozen)) == all_raw(records)
    path.write_bytes(b'[{"a":1}]')
    with pytest.raises(DatasetError, match="has changed"):
        pickle.loads(frozen).raw(0)


def test_escapes_without_end_take_linear_time(tmp_path):
    content = b'[{"a": NaN, "b": "' + b"\\n" * 4_000_000 + b'"}, {"b": "' + b'\\"[' * 1_000_000 + b'"}]'
    assert len(RecordFile(file_of(tmp_path, content))) == 2


def test_list_is_encoded_once_and_keeps_what_cannot_be(tmp_path):
    class Picture:
        pass

    circle = {}
    circle["self"] = circle
    given_records = [{"a": "é"}, {"a": "\ud83d"}, {"a": Picture()}, circle, 5, "text", {"a": math.nan}]
    records = RecordList(given_records)
    assert records.raw(0) == '{"a": "é"}'.encode()
    assert records.raw(1) == b'{"a": "\\ud83d"}'
    assert [row for row in range(7) if records.fault(row)] == [2, 3]
    assert "Picture" in records.fault(2)
    assert all_raw(records)[2:] == [b"null", b"null", b"5", b'"text"', b'{"a": NaN}']
    with pytest.raises(DatasetError, match="empty"):
        RecordList([])

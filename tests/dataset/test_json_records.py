"""Files and lists are indexed to the exact bytes of each record, or refused with a reason a user can act upon."""

import json
import math
import os
import pickle
import threading
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import data_files, json_index, json_records, json_scanner
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.record_list import RecordList
from scalselect.errors import DataChangedError, DatasetError

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
        raise json_index.msgspec.DecodeError("no")

    monkeypatch.setattr(json_index, "_decoded_bounds", refuse)


@given(st.lists(JSON_VALUES, min_size=1, max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
def test_scanner_and_fast_reader_find_the_same_offsets(tmp_path_factory, values, indent, ascii_only):
    text = " \n" + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\r\n"
    path = file_of(tmp_path_factory.mktemp("pool"), text.encode("utf-8", "replace"))
    records = RecordFile(path)
    start = text.encode("utf-8", "replace").index(b"[")
    scanned = list(json_scanner.array_bounds(path.read_bytes(), start))
    fast = [bounds.tolist() for bounds in json_index._decoded_bounds(path.read_bytes(), start)]
    assert scanned == [*zip(*fast, strict=True)]
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
        ('[{"a":"é"}\n"日本"]'.encode(), 12, "follows '\"日本\"]'"),
        (f'[{{"a":1}} "{"é" * 30}"]'.encode(), 9, f"follows '\"{'é' * 11}')"),
    ],
)
def test_broken_array_names_the_place_and_shows_as_text_what_follows(tmp_path, content, position, following):
    with pytest.raises(DatasetError) as caught:
        RecordFile(file_of(tmp_path, content))
    line = 1 + content[:position].count(b"\n")
    assert f"(line {line}, at byte {position}:" in str(caught.value)
    assert following in str(caught.value)
    assert "b'" not in str(caught.value)


def test_lines_are_counted_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(json_index, "_COUNTED_AT_ONCE", 7)
    with pytest.raises(DatasetError, match="line 812, at byte 1622:"):
        RecordFile(file_of(tmp_path, "[" + "1,\n" * 270 + "\n" * 541 + "1" * 269 + " 2]"))


@pytest.mark.parametrize(
    ("content", "position", "bracket"),
    [
        (b'[{"a":1},]', 9, "]"),
        (b'[{"a":1},\n {"a":2} ,\n ]\n', 22, "]"),
        (b'[{"a":1,}]', 8, "}"),
        (b'[{"a":[1,2, ]}]', 12, "]"),
        ('[{"ä":"é",\n},{"b":1}]'.encode(), 13, "}"),
        (b'[{"a":",]","b":",}",}]', 20, "}"),
    ],
)
def test_trailing_comma_is_called_by_its_name(tmp_path, content, position, bracket):
    with pytest.raises(DatasetError, match=f"at byte {position}: a trailing comma before `{bracket}`"):
        RecordFile(file_of(tmp_path, content))


@pytest.mark.parametrize(
    "content", [b'[{"a":",]" 1}]', b'[{"a":"x,\n]"}]', b'[{"a":[1,}]', b"[,]", b"[1, 2,", b'[{"a", }]']
)
def test_other_faults_near_a_comma_are_no_trailing_comma(tmp_path, content):
    with pytest.raises(DatasetError, match="is broken") as caught:
        RecordFile(file_of(tmp_path, content))
    assert "trailing comma" not in str(caught.value)


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
    "content", [b"id,image\n1,a.jpg\n", b"MZ\x03\x04\x00\n\x00", b'{"a": 1', b'"text"', "été 日本".encode()]
)
def test_anything_else_is_refused_showing_its_beginning(tmp_path, content):
    with pytest.raises(DatasetError, match="neither a JSON array nor JSON Lines") as caught:
        RecordFile(file_of(tmp_path, content))
    assert f"begins with {content.decode()[:24]!r} (wanted" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00", "is gzip-compressed: unpack it first"),
        ("[1]".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("[1]".encode("utf-16-le"), "is UTF-16: save it as UTF-8"),
        ("\ufeff{}".encode("utf-16-be"), "is UTF-16: save it as UTF-8"),
        ("\n[1]".encode("utf-16-be"), "is UTF-16: save it as UTF-8"),
        ("[1]".encode("utf-32"), "is UTF-32: save it as UTF-8"),
        ("\ufeff[1]".encode("utf-32-be"), "is UTF-32: save it as UTF-8"),
        ('{"a": 1}'.encode("utf-32-le"), "is UTF-32: save it as UTF-8"),
    ],
)
def test_compression_and_other_encodings_are_named(tmp_path, content, what):
    with pytest.raises(DatasetError) as caught:
        RecordFile(file_of(tmp_path, content))
    assert f"data file {what} ({tmp_path / 'pool.json'})" in str(caught.value)


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

    monkeypatch.setattr(data_files, "FileIO", refuse)
    with pytest.raises(DatasetError, match=r"cannot be read: .*Permission denied"):
        RecordFile(path)


def test_pickled_records_open_the_file_again_and_notice_a_change(tmp_path):
    path = file_of(tmp_path, '[{"a":1},{"a":2}]')
    records = RecordFile(path)
    frozen = pickle.dumps(records)
    assert all_raw(pickle.loads(frozen)) == all_raw(records)
    path.write_bytes(b'[{"a":1}]')
    with pytest.raises(DataChangedError, match="has changed"):
        pickle.loads(frozen).raw(0)
    path.unlink()
    for call in (lambda: pickle.loads(frozen).raw(0), pickle.loads(frozen).check_unchanged):
        with pytest.raises(DataChangedError, match=r"pool\.json \(No such file"):
            call()


def test_replaced_file_is_still_read_and_told_apart(tmp_path):
    path = file_of(tmp_path, '[{"a":1},{"a":2}]')
    records = RecordFile(path)
    fingerprint = records.fingerprint()
    records.check_unchanged()
    file_of(tmp_path, '[{"b":1},{"b":2}]', "new.json").replace(path)
    assert all_raw(records) == [b'{"a":1}', b'{"a":2}']
    assert records.fingerprint() == fingerprint
    assert fingerprint["sha256"] != RecordFile(path).fingerprint()["sha256"]
    with pytest.raises(DataChangedError, match="another file lies there"):
        records.check_unchanged()
    with pytest.raises(DataChangedError, match="another file lies there"):
        pickle.loads(pickle.dumps(records)).raw(0)


@pytest.mark.parametrize("kept", [0, 9, 16])
def test_file_cut_in_place_is_no_bus_error(tmp_path, kept):
    path = file_of(tmp_path, '[{"a":1},{"a":2}]')
    records = RecordFile(path)
    os.truncate(path, kept)
    for row in range(2):
        with pytest.raises(DataChangedError, match="has changed"):
            records.raw(row)
    with pytest.raises(DataChangedError):
        records.check_unchanged()


def test_bytes_written_in_place_are_never_given_as_the_record(tmp_path):
    # A change of the same size is seen by the time of the last write; where that is set back, nothing can see it.
    path = file_of(tmp_path, '[{"a":1},{"a":2}]')
    records = RecordFile(path)
    with path.open("r+b") as stream:
        stream.write(b'[{"b":1}')
    os.utime(path, ns=(0, 0))
    with pytest.raises(DataChangedError, match="written to"):
        records.raw(0)


def test_file_that_grows_while_it_is_indexed_is_refused(tmp_path, monkeypatch):
    path = file_of(tmp_path, '{"a":1}\n')
    hashed = json_records.sha256_of_bytes

    def grow(content):
        with path.open("ab") as stream:
            stream.write(b'{"a":2}\n')
        return hashed(content)

    monkeypatch.setattr(json_records, "sha256_of_bytes", grow)
    with pytest.raises(DataChangedError, match="written to"):
        RecordFile(path)


def test_record_is_read_in_as_many_pieces_as_the_system_gives(tmp_path, monkeypatch):
    records = RecordFile(file_of(tmp_path, '[{"a":1},{"a":"some text"}]'))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, length, position: pread(file, min(length, 3), position))
    assert all_raw(records) == [b'{"a":1}', b'{"a":"some text"}']


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_are_closed_when_their_records_go_or_never_come(tmp_path):
    good, broken = file_of(tmp_path, "[1]"), file_of(tmp_path, "[1,", "broken.json")
    before = open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        records = RecordFile(good)
        thawed = pickle.loads(pickle.dumps(records))
        assert thawed.raw(0) == b"1"
        assert open_files() == before + 2
        del records, thawed
        assert open_files() == before
        kept = []
        for path in (broken, file_of(tmp_path, "", "empty.json"), file_of(tmp_path, b"\x1f\x8b", "a.gz")):
            with pytest.raises(DatasetError) as caught:
                RecordFile(path)
            kept.append(caught.value)  # with its traceback, and so the half-made records
        assert open_files() == before


def test_two_threads_may_open_the_file_at_once(tmp_path, monkeypatch):
    records = pickle.loads(pickle.dumps(RecordFile(file_of(tmp_path, '[{"a":1},{"a":2}]'))))
    before, both, read = open_files(), threading.Barrier(2, timeout=20), {}
    opened = data_files.FileIO

    def open_together(path, *arguments, **options):
        both.wait()
        return opened(path, *arguments, **options)

    monkeypatch.setattr(data_files, "FileIO", open_together)
    threads = [threading.Thread(target=lambda row=row, of=records: read.update({row: of.raw(row)})) for row in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {0: b'{"a":1}', 1: b'{"a":2}'}
    assert open_files() == before + 1  # the other was closed after use
    del records, threads, thread
    assert open_files() == before


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
    assert records.first_fault().startswith("record 2 cannot be written as JSON: Object of type Picture")
    assert RecordList([{}]).first_fault() is None
    assert all_raw(records)[2:] == [b"null", b"null", b"5", b'"text"', b'{"a": NaN}']
    with pytest.raises(DatasetError, match="empty"):
        RecordList([])


class Circular:
    shape = ()

    def item(self):
        return self


def test_paths_and_scalars_of_a_list_are_written_as_what_they_stand_for():
    values = [Path("a/b.png"), np.int64(7), np.float32(0.5), np.bool_(1), np.array(3), np.str_("x"), np.float64(2)]
    records = RecordList([{"a": values, "b": {"c": Path("\udcff")}}])
    assert json.loads(records.raw(0)) == {"a": ["a/b.png", 7, 0.5, True, 3, "x", 2.0], "b": {"c": "\udcff"}}
    others = [np.array([1]), np.datetime64("2020-01-01"), {1, 2}, Decimal(1), Path, Circular(), {Path("a"): 1}]
    refused = RecordList([{"a": other} for other in others])
    assert [row for row in range(len(others)) if refused.fault(row)] == list(range(len(others)))


def test_records_are_copied_whole_when_the_system_writes_little_at_once(tmp_path, monkeypatch):
    records = RecordFile(file_of(tmp_path, json.dumps([{"id": str(i) * i} for i in range(1200)])))
    original = os.writev
    monkeypatch.setattr(os, "writev", lambda target, pieces: original(target, [memoryview(pieces[0])[:7]]))
    (written,) = records.write(range(0, 1200, 2), tmp_path / "some")
    assert json.loads(written.path.read_bytes()) == [{"id": str(i) * i} for i in range(0, 1200, 2)]


def test_a_file_that_is_cut_while_records_are_copied(tmp_path):
    path = file_of(tmp_path, json.dumps([{"id": "x" * 5000} for _ in range(50)]))
    records = RecordFile(path)
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(DataChangedError):
        records.write(range(50), tmp_path / "some")
    assert not (tmp_path / "some.json").exists()

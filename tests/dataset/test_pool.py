"""Both formats in both containers, ids to the letter, and no record that raises."""

import datetime as dt
import json
import pickle
import re

import pytest

from scalselect.dataset.opening import open_pool
from scalselect.errors import DatasetError, OptionError
from scalselect.records import Sample, UnusableRecord

TURNS = '[{"from": "human", "value": "<image>\\nWhat?"}, {"from": "gpt", "value": "A cat."}]'
PLAIN = '[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]'


def write(tmp_path, records, *, lines=False, name="pool"):
    path = tmp_path / f"{name}.{'jsonl' if lines else 'json'}"
    joined = "\n".join(records) if lines else "[" + ",\n".join(records) + "]"
    path.write_text(joined, encoding="utf-8", errors="surrogatepass")
    return path


def only(tmp_path, record, **options):
    """Read one record, as a line, so that a broken one is a row."""
    good = '{"conversations": ' + PLAIN + "}"
    pool = open_pool(write(tmp_path, [good, record], lines=True), **options)
    return next(iter(pool.read(1, 2)))


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", ["llava", "messages"])
def test_both_formats_in_both_containers(tmp_path, name, lines):
    keys = {"llava": ("conversations", "image", "from", "value"), "messages": ("messages", "images", "role", "content")}
    turns_key, image_key, role, content = keys[name]
    record = {
        "id": "a",
        image_key: ["x/1.jpg", "/2.png"],
        turns_key: [{role: "user", content: "<image><image>q"}, {role: "assistant", content: "r"}],
    }
    path = write(tmp_path, [json.dumps(record), json.dumps({turns_key: [{role: "user", content: "q"}]})], lines=lines)
    pool = open_pool(path)
    assert (pool.format, pool.container, pool.source, len(pool)) == (name, "jsonl" if lines else "json", "pool", 2)
    first, second = pool.read(0, 2)
    assert [image.text for image in first.images] == ["x/1.jpg", "/2.png"]
    assert [image.path for image in first.images] == [str(tmp_path / "x/1.jpg"), "/2.png"]
    assert [turn.role for turn in first.turns] == ["user", "assistant"]
    assert second.images == ()
    assert second.identity.row == 1


ZOO = [
    ('"007"', "007", "string"),
    ("7", "7", "number"),
    ("7.0", "7.0", "number"),
    ("7.00e+0", "7.00e+0", "number"),
    ("-0", "-0", "number"),
    ("1" * 40, "1" * 40, "number"),
    ("9" * 5000, "9" * 5000, "number"),
    ("NaN", "NaN", "number"),
    ("null", "null", "null"),
    (None, None, "absent"),
    ('"007"', "007", "string"),
    ('""', "", "string"),
    ('"日本\\u00e9\\n"', "日本é\n", "string"),
    ('"\\ud83d\\ude00"', "😀", "string"),
    ('"x\\ud83d"', '"x\\ud83d"', "string"),
    ("[1, 2.0,  {}]", "[1, 2.0,  {}]", "other"),
    ('{"a":  1}', '{"a":  1}', "other"),
    ("true", "true", "other"),
]


@pytest.mark.parametrize("lines", [False, True])
def test_ids_are_kept_to_the_letter(tmp_path, lines):
    records = [f'{{"id" : {raw} , "conversations": {PLAIN}}}' for raw, _, _ in ZOO]
    records[9] = f'{{"conversations": {PLAIN}}}'
    pool = open_pool(write(tmp_path, records, lines=lines))
    read = list(pool.read(0, len(pool)))
    assert [item.identity.row for item in read] == list(range(len(ZOO)))
    assert all(isinstance(item, Sample) for item in read)
    assert [(item.identity.id, item.identity.id_type) for item in read] == [(id_, kind) for _, id_, kind in ZOO]
    assert [pool.raw(row).decode() for row in range(len(pool))] == records
    for item in read:
        (item.identity.id or "").encode()  # whatever is written later is written in UTF-8


def test_python_list_is_a_pool(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    records = [{"id": 7.0, "image": "a.jpg", "conversations": json.loads(TURNS)}, "text", {"conversations": {1, 2}}]
    pool = open_pool(records)
    sample, text, unwritable = pool.read(0, 3)
    assert (pool.source, pool.container, pool.location) == ("records", "list", None)
    assert sample.identity.id == "7.0"
    assert sample.images[0].path == str(tmp_path / "a.jpg")
    assert (text.reason, unwritable.reason) == ("invalid_record", "invalid_record")
    assert "a string" in text.detail
    assert "set" in unwritable.detail
    assert "a Python list: 3 rows" in pool.describe()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("no json", "invalid_record"),
        ('{"id": 1, "conversations"', "invalid_record"),
        ('{"id": 1} x', "invalid_record"),
        ("[1]", "invalid_record"),
        ("NaN", "invalid_record"),
        ("12", "invalid_record"),
        ('{"id": 1}', "no_usable_turn"),
        ('{"id": 1, "messages": ' + PLAIN + "}", "no_usable_turn"),
        ('{"conversations": null}', "no_usable_turn"),
        ('{"conversations": []}', "no_usable_turn"),
        ('{"image": "a.jpg", "conversations": []}', "no_usable_turn"),
        ('{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n"}]}', "no_usable_turn"),
        ('{"conversations": "text"}', "invalid_record"),
        ('{"conversations": {"from": "human"}}', "invalid_record"),
        ('{"conversations": [[]]}', "invalid_record"),
        ('{"conversations": [{"from": "human", "value": "\\ud800"}]}', "invalid_record"),
        ('{"video": "a.mp4", "conversations": ' + PLAIN + "}", "unsupported_content"),
        ('{"audios": ["a.wav"], "conversations": ' + PLAIN + "}", "unsupported_content"),
        ('{"image": 5, "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": {"bytes": 5}, "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": {"name": "x"}, "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": ["a.jpg", null], "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": "\\ud800", "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": "a", "images": ["b"], "conversations": ' + TURNS + "}", "invalid_record"),
        ('{"image": "https://x.org/a.jpg", "conversations": ' + TURNS + "}", "image_missing"),
        ('{"image": {"path": "http://x.org/a.jpg"}, "conversations": ' + TURNS + "}", "image_missing"),
        ('{"conversations": ' + TURNS + "}", "marker_mismatch"),
        ('{"meta": ' + "[" * 1000 + "]" * 1000 + ', "conversations": ' + PLAIN + "}", "invalid_record"),
        ('{"meta": ' + "[" * 100_000 + "]" * 100_000 + "}", "invalid_record"),
        ('{"meta": ' + '{"a":' * 100_000, "invalid_record"),
    ],
)
def test_bad_records_are_rows_with_a_reason(tmp_path, record, reason):
    row = only(tmp_path, record, format="llava")
    assert isinstance(row, UnusableRecord)
    assert (row.identity.row, row.reason) == (1, reason)
    assert 0 < len(row.detail) < 300


def test_counts_of_an_unusable_record_are_kept(tmp_path):
    row = only(tmp_path, '{"id": "x", "image": ["a", "b"], "conversations": ' + TURNS + "}")
    assert (row.identity.id, row.turns, row.images, row.reason) == ("x", 2, 2, "marker_mismatch")


def test_invalid_utf8_is_a_row(tmp_path):
    path = tmp_path / "pool.json"
    path.write_bytes(b'[{"meta": "\xff", "conversations": %b}, {"conversations": %b}]' % ((PLAIN.encode(),) * 2))
    bad, good = open_pool(path).read(0, 2)
    assert bad.reason == "invalid_record"
    assert "not UTF-8" in bad.detail
    assert isinstance(good, Sample)


@pytest.mark.parametrize(
    "record",
    [
        '{"meta": [NaN, Infinity], "conversations": ' + PLAIN + "}",
        '{"meta": "\\ud800", "conversations": ' + PLAIN + "}",
        '{"\\udfff": {"a": [1, "]}"]}, "conversations": ' + PLAIN + ' , "video": null}',
        '{"conversations": 5, "conversations": ' + PLAIN + "}",
        '{"conversations": 5, "x": NaN, "conversations": ' + PLAIN + "}",
        '{"meta": ' + "[" * 150 + "]" * 150 + ', "conversations": ' + PLAIN + "}",
        '{"image": "", "conversations": ' + PLAIN + "}",
        '{"image": [], "images": null, "videos": [], "conversations": ' + PLAIN + "}",
        '{"conversations": [{"from": "human", "value": "' + "[" * 3000 + '"}]}',
    ],
)
def test_oddities_outside_what_is_used_do_no_harm(tmp_path, record):
    assert isinstance(only(tmp_path, record), Sample)


def test_same_images_under_both_keys_are_one(tmp_path):
    sample = only(tmp_path, '{"image": "a.jpg", "images": ["a.jpg"], "conversations": ' + TURNS + "}")
    assert len(sample.images) == 1


def test_images_folder_is_what_paths_are_relative_to(tmp_path):
    (tmp_path / "pictures").mkdir()
    path = write(tmp_path, [f'{{"image": "coco/1.jpg", "conversations": {TURNS}}}'])
    (sample,) = open_pool(path, images=tmp_path / "pictures").read(0, 1)
    assert sample.images[0].path == str(tmp_path / "pictures/coco/1.jpg")
    with pytest.raises(DatasetError, match=r"image folder does not exist: .*picture \(did you mean `pictures`\?\)"):
        open_pool(path, images=tmp_path / "picture")
    with pytest.raises(DatasetError, match="image folder is no folder"):
        open_pool(path, images=path)
    with pytest.raises(OptionError, match="images is empty"):
        open_pool(path, images="")


def test_images_folder_has_one_spelling(tmp_path, monkeypatch):
    pictures = tmp_path / "data" / "pictures"
    pictures.mkdir(parents=True)
    (tmp_path / "link").symlink_to("data/pictures")
    path = write(pictures, [f'{{"image": "../1.jpg", "conversations": {TURNS}}}'])
    monkeypatch.chdir(tmp_path)
    spellings = ["data/pictures", "data/../data/pictures", "./link", pictures, "link/../pictures/"]
    assert {open_pool(path, images=spelling).images for spelling in spellings} == {str(pictures.resolve())}
    pool = open_pool(tmp_path / "link" / path.name)
    assert pool.images == str(pictures.resolve())
    (sample,) = pool.read(0, 1)
    assert sample.images[0].path == f"{pictures.resolve()}/../1.jpg"
    monkeypatch.chdir(tmp_path / "link")
    assert open_pool([{"conversations": []}]).images == str(pictures.resolve())


def test_images_are_found_or_the_first_missing_one_is_named(tmp_path):
    def pool_of(*names, **options):
        records = [{"image": name, "conversations": json.loads(TURNS)} for name in names]
        return open_pool([*records, {"conversations": json.loads(PLAIN)}], images=tmp_path, **options)

    missing = [f"{number}.jpg" for number in range(30)]
    (tmp_path / "there.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert pool_of(*missing).images_found() == (str(tmp_path / "0.jpg"), 20)
    assert pool_of("folder", *missing[:4]).images_found() == (str(tmp_path / "folder"), 5)
    assert pool_of(*missing[:19], "there.jpg").images_found() == (None, 20)
    assert pool_of(*missing[:20], "there.jpg").images_found() == (str(tmp_path / "0.jpg"), 20)
    assert pool_of(*missing[:20], "there.jpg").images_found(first=21) == (None, 21)
    assert pool_of(*missing, limit=3).images_found() == (str(tmp_path / "0.jpg"), 3)
    assert pool_of("https://x.org/a.jpg", "").images_found() == (None, 0)
    late = [{"conversations": json.loads(PLAIN)}] * 999 + json.loads(
        f'[{{"image": ["a", "b"], "conversations": {PLAIN}}}, {{"image": "c", "conversations": {PLAIN}}}]'
    )
    assert open_pool(late, images=tmp_path).images_found() == (str(tmp_path / "a"), 2)
    assert open_pool(late, images=tmp_path).images_found(first=1) == (str(tmp_path / "a"), 1)


def test_auto_takes_the_format_of_most_records(tmp_path):
    llava, messages, neither = f'{{"conversations": {PLAIN}}}', f'{{"messages": {PLAIN}}}', '{"text": "x"}'
    assert open_pool(write(tmp_path, [llava, messages, messages, neither])).format == "messages"
    assert open_pool(write(tmp_path, ["1"] * 200 + [llava])).format == "llava"
    assert open_pool(write(tmp_path, [llava] * 51 + [messages] * 200)).format == "llava"
    assert open_pool(write(tmp_path, [llava]), format="messages").format == "messages"
    with pytest.raises(DatasetError, match=re.escape("keys conversatoin, text")) as caught:
        open_pool(write(tmp_path, ['{"conversatoin": [], "text": "x"}', "[2]"]))
    assert "wanted: turns under `conversations` or `messages`" in str(caught.value)
    assert "did you mean `conversations`?" in str(caught.value)
    with pytest.raises(DatasetError, match="no record is a JSON object"):
        open_pool(write(tmp_path, ["1", "2"]))


def message_of(records):
    with pytest.raises(DatasetError) as caught:
        open_pool(records)
    return str(caught.value)


def test_list_whose_records_cannot_be_written_shows_the_first_fault():
    day = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    told = message_of([5, {"conversations": [], "day": day}, {"conversations": {1}}])
    assert "record 1 cannot be written as JSON: Object of type datetime is not JSON serializable" in told
    assert "wanted: turns under `conversations` or `messages`" in told
    assert len(open_pool([{"day": day}, {"conversations": []}])) == 2


def test_near_name_is_told_of_unknown_keys_only():
    assert "did you mean" not in message_of([{"images": ["a.png"], "image": "a.png", "text": "x"}])
    assert "did you mean `messages`?" in message_of([{"images": ["a.png"], "message": []}])


def test_limit_shortens_the_pool_only(tmp_path):
    path = write(tmp_path, [f'{{"id": {row}, "conversations": {PLAIN}}}' for row in range(5)])
    pool = open_pool(path, limit=2)
    assert (len(pool), pool.total_records) == (2, 5)
    assert pool.describe() == "LLaVA records (`conversations`, `image`) in a JSON array: 2 of 5 rows"
    assert pool.fingerprint() == open_pool(path).fingerprint()
    assert pool.limit == 2
    for whole in (5, 99):
        assert (len(open_pool(path, limit=whole)), open_pool(path, limit=whole).limit) == (5, None)
    with pytest.raises(ValueError, match="pool of 2"):
        pool.read(1, 3)
    with pytest.raises(IndexError):
        pool.raw(2)
    assert list(pool.read(2, 2)) == []


def test_misuse_of_options_is_told(tmp_path):
    path = write(tmp_path, [f'{{"conversations": {PLAIN}}}'])
    with pytest.raises(OptionError, match=r"did you mean `llava`"):
        open_pool(path, format="lava")
    with pytest.raises(OptionError, match="image_position must be one of record, turn-start"):
        open_pool(path, image_position="front")
    with pytest.raises(OptionError, match="limit"):
        open_pool(path, limit=0)
    with pytest.raises(DatasetError, match="path of a file or a list of records: dict"):
        open_pool({"conversations": []})


def test_turn_start_reaches_the_conversation(tmp_path):
    record = '{"image": "a", "conversations": [{"from": "human", "value": "x <image>"}]}'
    (kept,) = open_pool(write(tmp_path, [record])).read(0, 1)
    (moved,) = open_pool(write(tmp_path, [record]), image_position="turn-start").read(0, 1)
    assert moved.turns[0].parts == kept.turns[0].parts[::-1]
    assert kept.text_sha256 != moved.text_sha256


@pytest.mark.parametrize("lines", [False, True])
def test_pool_travels_to_another_process_and_folder(tmp_path, monkeypatch, lines):
    path = write(
        tmp_path, [f'{{"id": {row}, "image": "a", "conversations": {TURNS}}}' for row in range(3)], lines=lines
    )
    monkeypatch.chdir(tmp_path)
    pool = open_pool(path.name)
    frozen = pickle.dumps(pool)
    monkeypatch.chdir("/")
    assert list(pickle.loads(frozen).read(0, 3)) == list(pool.read(0, 3))


def test_fingerprint_is_of_the_bytes(tmp_path):
    path = write(tmp_path, [f'{{"conversations": {PLAIN}}}'])
    before = open_pool(path).fingerprint()
    assert (before["bytes"], before["records"]) == (path.stat().st_size, 1)
    path.write_bytes(path.read_bytes() + b"\n")
    assert open_pool(path).fingerprint()["sha256"] != before["sha256"]
    first, second = ([{"conversations": [], "id": id_}] for id_ in (1, 2))
    assert open_pool(first).fingerprint()["sha256"] != open_pool(second).fingerprint()["sha256"]


def test_text_of_many_megabytes_is_one_row(tmp_path):
    record = '{"id": "big", "conversations": [{"from": "human", "value": "' + "a\\n[" * 5_000_000 + '"}]}'
    sample = only(tmp_path, record)
    assert len(sample.turns[0].parts[0].text) == 15_000_000


def test_image_order_puts_rows_of_the_same_images_together(tmp_path):
    def row(*images):
        markers = "<image>" * len(images)
        return {"images": list(images), "conversations": [{"from": "human", "value": f"{markers}What?"}]}

    rows = [
        row("b.png"),
        row("a.png", "b.png"),
        row(),
        row("a.png"),
        row("b.png"),
        7,
        row("a.png", "b.png"),
        row("a.png"),
    ]
    pool = open_pool(write(tmp_path, [json.dumps(each) for each in rows]))
    assert pool.in_image_order().tolist() == [0, 4, 1, 6, 2, 3, 7, 5]
    assert [sample.identity.row for sample in pool.samples_at([4, 0])] == [4, 0]
    with pytest.raises(IndexError):
        list(pool.samples_at([8]))

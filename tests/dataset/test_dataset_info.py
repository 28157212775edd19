"""Entries of `dataset_info.json`: their files, and their records as LLaMA-Factory reads them."""

import json
import re

import pytest

from scalselect.dataset.dataset_info import dataset_info_entry, read_dataset_info
from scalselect.dataset.dataset_info_format import format_from_mapping, resolved_mapping
from scalselect.dataset.formats import choose_format
from scalselect.dataset.record_fields import record_fields
from scalselect.errors import DatasetError, OptionError, SampleError

MESSAGES_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def info(tmp_path, **entries):
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps(entries))
    return path


def spoken(mapping, record):
    """Read a record as a mapping has it, by way of the JSON text that run.json keeps."""
    format_ = choose_format("auto", [], "x", mapping=json.loads(json.dumps(mapping)))
    fields = record_fields(json.dumps(record).encode())
    read = format_.conversation(fields, format_.turns(fields), format_.images(fields), "record")
    turns = [(turn.role, "".join(getattr(part, "text", "*") for part in turn.parts)) for turn in read.turns]
    return turns, list(read.images)


def test_an_entry_without_columns_is_an_alpaca_file_without_images():
    mapping = resolved_mapping({"file_name": "x.json"})
    assert mapping == {
        "formatting": "alpaca",
        "columns": {"prompt": "instruction", "query": "input", "response": "output"},
    }
    record = {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["d", "e"]], "images": ["i"]}
    assert spoken(mapping, record) == ([("user", "a\nb"), ("assistant", "c")], [])


def test_columns_of_an_alpaca_file_hold_just_what_they_list():
    columns = {"prompt": "q", "response": "a", "system": "sys", "history": "past", "images": "pics", "tools": "tools"}
    mapping = resolved_mapping({"columns": columns})
    record = {"q": "<image>x", "input": "not read", "a": "y", "sys": "s", "past": [["d", "e"]], "pics": "p.png"}
    turns = [("system", "s"), ("user", "d"), ("assistant", "e"), ("user", "*x"), ("assistant", "y")]
    assert spoken(mapping, record) == (turns, ["p.png"])


def test_sharegpt_has_its_own_defaults():
    mapping = resolved_mapping({"formatting": "sharegpt", "columns": {"messages": "conversations", "images": "image"}})
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "<image>x"},
        {"from": "function_call", "value": "f"},
        {"from": "observation", "value": "o"},
        {"from": "gpt", "value": "y"},
    ]
    said, images = spoken(mapping, {"conversations": turns, "image": "p.png", "images": ["not", "read"]})
    assert [role for role, _ in said] == ["system", "user", "assistant", "tool", "assistant"]
    assert images == ["p.png"]
    with pytest.raises(SampleError, match="1 `<image>` markers, 0 images"):
        spoken(resolved_mapping({"formatting": "sharegpt"}), {"conversations": turns, "image": "p.png"})


def test_unlisted_tags_mean_nothing():
    entry = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": MESSAGES_TAGS}
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    assert spoken(resolved_mapping(entry), {"messages": talk})[0] == [("user", "x"), ("assistant", "y")]
    system = {"role": "system", "content": "s"}
    with pytest.raises(SampleError) as caught:
        spoken(resolved_mapping(entry), {"messages": [system, *talk]})
    assert (caught.value.reason, caught.value.detail) == ("unknown_role", "`role` of turn 1: 'system'")
    entry["tags"] = {**MESSAGES_TAGS, "system_tag": "system", "observation_tag": None}
    assert spoken(resolved_mapping(entry), {"messages": [system, *talk]})[0][0] == ("system", "s")
    with pytest.raises(SampleError, match="turn 1 has no `role`"):
        spoken(resolved_mapping(entry), {"messages": [{"from": "user", "value": "x"}]})


def test_only_mapped_video_makes_a_row_unusable():
    record = {"conversations": [{"from": "human", "value": "x"}], "videos": ["v.mp4"]}
    columns = {"messages": "conversations"}
    assert spoken(resolved_mapping({"formatting": "sharegpt", "columns": columns}), record)[1] == []
    with pytest.raises(SampleError, match="under `videos`") as caught:
        spoken(resolved_mapping({"formatting": "sharegpt", "columns": {**columns, "videos": "videos"}}), record)
    assert caught.value.reason == "unsupported_content"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"formatting": "sharegpt"},
        {"columns": {"prompt": "q", "images": "", "system": None}},
        {"formatting": "sharegpt", "columns": {"messages": "m"}, "tags": MESSAGES_TAGS, "ranking": True},
    ],
)
def test_a_resolved_mapping_stays_as_it_is_and_is_small(entry):
    mapping = resolved_mapping(entry)
    assert resolved_mapping(mapping) == mapping == json.loads(json.dumps(mapping))
    assert format_from_mapping(mapping) == format_from_mapping(entry)
    assert format_from_mapping(mapping).name == "dataset-info"
    assert set(mapping) <= {"formatting", "columns", "tags"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"formatting": "sharegtp"}, "`formatting` must be alpaca or sharegpt in entry `x` of dataset_info.json: "),
        ({"formatting": "openai"}, "give the data file with --format messages"),
        ({"formatting": ["alpaca"]}, "`formatting` must be alpaca or sharegpt"),
        (
            {"columns": {"imagse": "x"}},
            "`columns` has an unknown name in entry `x` of dataset_info.json: 'imagse' (did",
        ),
        ({"columns": ["prompt"]}, "`columns` must be an object"),
        ({"columns": {"prompt": 5}}, "`columns` must hold names of keys in entry `x` of dataset_info.json: prompt = 5"),
        ({"columns": {"images": "images"}}, "`columns` lacks `prompt`"),
        ({"formatting": "sharegpt", "columns": {"images": "images"}}, "`columns` lacks `messages`"),
        ({"formatting": "sharegpt", "tags": {"user_tag": "user", "role_tag": "r"}}, "`tags` lacks `content_tag`"),
        ({"formatting": "sharegpt", "tags": {"usre_tag": "user"}}, "did you mean `user_tag`?"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(tmp_path, entry, told):
    with pytest.raises(OptionError, match=re.escape(told)):
        dataset_info_entry(info(tmp_path, x=entry), "x").mapping()


def test_files_are_found_as_the_file_says(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a.json", "folder/2.json", "folder/1.json"):
        (tmp_path / name).write_text("[]")
    path = info(
        tmp_path,
        one={"file_name": "a.json", "num_samples": 5},
        absolute={"file_name": str(tmp_path / "a.json")},
        many={"file_name": "folder"},
        hub={"hf_hub_url": "owner/name", "ms_hub_url": "other/name"},
        inside={"hf_hub_url": "owner/name", "folder": "data/", "split": "train", "subset": None},
        cloud={"cloud_file_name": "s3://bucket/a.json"},
    )
    entries = read_dataset_info(path)
    assert entries.keys() == read_dataset_info(tmp_path).keys()
    assert entries["one"].files() == entries["absolute"].files() == [str(tmp_path / "a.json")]
    assert entries["many"].files() == [str(tmp_path / "folder/1.json"), str(tmp_path / "folder/2.json")]
    assert entries["hub"].files() == ["hf://datasets/owner/name"]
    assert entries["inside"].files() == ["hf://datasets/owner/name/data"]
    assert entries["cloud"].files() == ["s3://bucket/a.json"]
    assert entries["one"].folder == str(tmp_path)
    assert (entries["one"].num_samples, entries["many"].num_samples) == (5, None)


@pytest.mark.parametrize(
    ("entry", "error", "told"),
    [
        ({"file_name": "pol.json"}, DatasetError, "pol.json (did you mean `pool.json`?)"),
        ({"file_name": "empty"}, DatasetError, "is empty"),
        ({"file_name": 5}, OptionError, "needs a `file_name`: 5"),
        ({}, OptionError, "needs a `file_name`: None"),
        ({"script_url": "x"}, OptionError, "is a loading script, which is not read: script_url = 'x'"),
        ({"hf_hub_url": "a/b", "subset": "en"}, OptionError, "names a subset, which cannot be told from files: 'en'"),
        ({"hf_hub_url": "a/b", "split": "test"}, OptionError, "names a split, which cannot be told from files: 'test'"),
        ({"hf_hub_url": "a/b", "folder": 5}, OptionError, "needs a `folder`: 5"),
        ({"ms_hub_url": "x"}, OptionError, "is a data set of the ModelScope hub"),
        ({"om_hub_url": "x", "script_url": "y"}, OptionError, "om_hub_url = 'x'|loading script"),
    ],
)
def test_files_that_cannot_be_had_are_told(tmp_path, entry, error, told):
    (tmp_path / "pool.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=told if "|" in told else re.escape(told)):
        dataset_info_entry(info(tmp_path, x=entry), "x").files()


def test_an_unknown_name_is_told_with_near_ones(tmp_path):
    path = info(tmp_path, mllm_demo={}, other={})
    with pytest.raises(OptionError, match=r"'mlm_demo' \(did you mean `mllm_demo`\?\)"):
        dataset_info_entry(path, "mlm_demo")
    with pytest.raises(OptionError, match=r"\(it has mllm_demo, other\)"):
        dataset_info_entry(path, "zzz")


@pytest.mark.parametrize(
    ("text", "told"),
    [("[", "is no JSON"), ("[]", "must be an object"), ('{"a": 5}', "(a: 5)"), ('{"a": "\xff"}', "is no JSON")],
)
def test_a_broken_file_is_misuse(tmp_path, text, told):
    path = tmp_path / "dataset_info.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=re.escape(told)):
        read_dataset_info(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_dataset_info(tmp_path / "nothing.json")


def test_a_format_beside_a_mapping_is_told_twice():
    with pytest.raises(OptionError, match="format is told twice: 'llava'"):
        choose_format("llava", [], "x", mapping={})
    assert choose_format("dataset-info", [], "x", mapping={}).name == "dataset-info"
    with pytest.raises(OptionError, match="format must be one of"):
        choose_format("dataset-info", [], "x")

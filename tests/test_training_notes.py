"""What trainers are told of a subset: entries, commands, and what stops them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scalselect.dataset.data_sets import parse_data_set
from scalselect.dataset.subset_facts import SubsetFacts
from scalselect.dataset_info_entry import entry_of, mixtures, why_not_llamafactory
from scalselect.training_notes import document, notes_of
from scalselect.training_sets import TrainingSet


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def a_set(*, container="json", record_format="llava", files=("selected.json",), images="/data", mapping=None, **facts):
    plain = SubsetFacts(
        rows=10,
        ids={"string": 10},
        image_keys=["image"],
        turns_keys=["conversations"],
        relative=10,
        turn_keys=[["from", "value"]],
        roles=["human", "gpt"],
    )
    for name, value in facts.items():
        setattr(plain, name, value)
    names = tuple(f"chosen-{i}" if len(files) > 1 else "chosen" for i in range(len(files)))
    paths = tuple(f"/runs/my run/{file}" for file in files)
    return TrainingSet(
        source="pool",
        container=container,
        format=record_format,
        files=paths,
        names=names,
        images=images,
        mapping=mapping,
        facts=plain,
    )


def notes(*sets):
    return {note.trainer: note for note in notes_of(sets, "/runs/my run")}


def test_tags_are_those_of_the_records():
    entry = entry_of(
        "/x.json",
        a_set(
            record_format="messages",
            turns_keys=["messages"],
            turn_keys=[["role", "content"]],
            roles=["user", "assistant", "system", "tool"],
            image_keys=["images"],
        ),
    )
    assert entry == {
        "file_name": "/x.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "observation_tag": "tool",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    }


def test_alpaca_records_have_columns_and_no_tags():
    texts = ["system", "instruction", "output"]
    entry = entry_of("/x.json", a_set(record_format="alpaca", turns_keys=[], turn_keys=[], roles=[], text_keys=texts))
    columns = {"prompt": "instruction", "response": "output", "system": "system", "images": "image"}
    assert entry == {"file_name": "/x.json", "formatting": "alpaca", "columns": columns}
    entry = entry_of(
        "/x.json", a_set(record_format="query-response", image_keys=[], text_keys=["query", "response", "history"])
    )
    assert entry["columns"] == {"prompt": "query", "response": "response", "history": "history"}


def test_an_entry_that_the_run_was_given_is_given_back_with_its_tags_in_full():
    mapping = {
        "formatting": "sharegpt",
        "columns": {"messages": "talk"},
        "tags": {"role_tag": "who", "content_tag": "says"},
    }
    entry = entry_of("/x.json", a_set(record_format="dataset-info", mapping=mapping))
    assert (entry["columns"], entry["file_name"]) == ({"messages": "talk"}, "/x.json")
    assert entry["tags"]["role_tag"] == "who"
    assert entry["tags"]["system_tag"] == "system"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"record_format": "prompt-completion"}, "has prompt and completion"),
        ({"turns_keys": ["messages", "conversations"]}, "under `messages` and `conversations`"),
        ({"turn_keys": [["from", "value"], ["role", "content"]]}, "written in two ways"),
        ({"roles": ["human", "gpt", "user"]}, "calls the same role by several words"),
        ({"image_keys": ["image", "images"]}, "images of `pool` are under `image` and `images`"),
        ({"in_data": 2}, "2 records of `pool` with image bytes in their text"),
        ({"content_parts": 2}, "2 records of `pool` with content in parts"),
        ({"without_marker": 3}, "3 records of `pool` with images and no `<image>`"),
        ({"ids": {"number": 4, "string": 6}}, "the id of `pool` is a number in 4 rows and a string in 6 rows"),
        ({"mixed_images": ["image"]}, "`image` of `pool` is a list in some rows"),
        ({"mixed_fields": list("abcdefg")}, "values of `a`, `b`, `c`, `d`, `e` and 2 more"),
    ],
)
def test_what_stops_llamafactory_is_told_and_what_to_do(facts, told):
    part = a_set(**facts)
    assert any(told in reason for reason in why_not_llamafactory(part))
    text = notes(part)["LLaMA-Factory"].text
    assert told in text
    assert "scalselect export '/runs/my run' --to messages" in text
    assert json.loads(blocks(text, "json")[0])["chosen"]["file_name"] == "/runs/my run/exported/messages.jsonl"
    assert "media_dir" not in text


def test_nulls_and_absent_ids_and_tables_mix_nothing():
    assert why_not_llamafactory(a_set(ids={"string": 5, "null": 3, "absent": 2})) == []
    assert why_not_llamafactory(a_set(container="parquet", ids={"number": 4, "string": 6})) == []


def test_containers_that_a_trainer_cannot_read():
    tar = notes(a_set(container="tar", files=("selected/a.tar", "selected/b.tar"), in_data=10, relative=0))
    for trainer in ("LLaMA-Factory", "ms-swift", "LLaVA"):
        assert "reads no tar archives" in tar[trainer].text
        assert "scalselect export '/runs/my run' --to " in tar[trainer].text
    packed = notes(a_set(container="jsonl.gz", files=("selected.jsonl.gz",)))
    for trainer in ("LLaMA-Factory", "ms-swift", "LLaVA"):
        assert "gunzip --keep '/runs/my run/selected.jsonl.gz'" in packed[trainer].text
    assert json.loads(blocks(packed["LLaMA-Factory"].text, "json")[0])["chosen"]["file_name"].endswith("selected.jsonl")
    table = notes(
        a_set(container="parquet", files=("selected/0.parquet", "selected/1.parquet"), in_data=10, relative=0)
    )
    entries = json.loads(blocks(table["LLaMA-Factory"].text, "json")[0])
    assert list(entries) == ["chosen-0", "chosen-1"]
    assert "dataset: chosen-0,chosen-1" in table["LLaMA-Factory"].text
    assert "ROOT_IMAGE_DIR" not in table["ms-swift"].text
    assert "--to llava" in table["LLaVA"].text


def test_lines_become_an_array_for_llava_without_a_change(tmp_path):
    lines = ['{"id": "007", "n": 1.0}', '{"id": "b"}', '{"id": "ü,"}']
    path = tmp_path / "my set.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    part = a_set(container="jsonl", files=("x.jsonl",))
    part = TrainingSet(**{**{name: getattr(part, name) for name in part.__slots__}, "files": (str(path),)})
    make, options = blocks(notes(part)["LLaVA"].text, "bash")
    subprocess.run(["bash", "-c", make], check=True)
    array = Path(shlex.split(options)[1])
    assert json.loads(array.read_text()) == [json.loads(line) for line in lines]
    assert all(line in array.read_text() for line in lines)


def test_what_llava_cannot_train_is_counted():
    text = notes(
        a_set(several_images=2, image_lists=3, image_nulls=4, without_marker=5, roles=["human", "gpt", "system"])
    )
    for told in (
        "2 rows with several images",
        "3 rows whose images are a list",
        "4 rows where",
        "5 rows without",
        "roles system",
    ):
        assert told in text["LLaVA"].text
    assert "Every row has what it wants" in notes(a_set())["LLaVA"].text
    assert "is not in LLaVA's format" in notes(a_set(record_format="messages"))["LLaVA"].text


def guide(*sets, run_dir="/runs/my run", like="llamafactory"):
    return document(notes_of(sets, run_dir), sets, run_dir, "Seen.", like)


def test_the_check_has_every_data_set_with_its_folder():
    plain = guide(a_set(), like="trl")
    assert "`scalselect check '/runs/my run/selected.json' --images /data --like trl`, or" in plain
    both = [a_set(files=("a.json", "b.json"), images="/a b"), replace(a_set(images="/c"), names=("other",))]
    words = shlex.split(re.search(r"`(scalselect check .*?)`", guide(*both))[1])
    assert words[2:] == [
        "chosen-0=/runs/my run/a.json,images=/a b",
        "chosen-1=/runs/my run/b.json,images=/a b",
        "other=/runs/my run/selected.json,images=/c",
        "--like",
        "llamafactory",
    ]
    for word, path in zip(words[2:5], ("a", "b", "selected"), strict=True):
        assert parse_data_set(word).data == f"/runs/my run/{path}.json"


def test_what_lies_in_a_bucket_must_be_copied_first():
    part = replace(a_set(images="s3://pool/images"), files=("s3://pool/run/selected.json",))
    text = guide(part, run_dir="s3://pool/run")
    assert "copy `s3://pool/run` to a folder that is called `LOCAL_RUN_DIR` and `s3://pool/images` to" in text
    assert "ROOT_IMAGE_DIR=LOCAL_IMAGE_DIR swift sft --model MODEL --dataset LOCAL_RUN_DIR/selected.json" in text
    assert "--data_path LOCAL_RUN_DIR/selected.json --image_folder LOCAL_IMAGE_DIR" in text
    output = "--output LOCAL_RUN_DIR/exported/trl.parquet"
    assert f"scalselect export s3://pool/run --to trl --embed-images {output}" in text
    for block in blocks(text, "bash") + blocks(text, "yaml") + blocks(text, "json") + blocks(text, "python"):
        assert "s3://" not in block.replace("scalselect export s3://pool/run", "")
    assert "copy" not in guide(a_set())
    assert "IMAGE_FOLDER" not in guide(a_set())
    unknown = a_set(images=None)
    assert "`IMAGE_FOLDER` stands for the folder" in guide(unknown)
    assert 'media_dir: "IMAGE_FOLDER"' in notes(unknown)["LLaMA-Factory"].text


def test_two_image_folders_cannot_both_be_given():
    both = notes(a_set(images="/a"), a_set(images="/b"))
    assert "image paths are relative to 2 folders, and it takes one" in both["LLaMA-Factory"].text
    assert "--to messages" in both["ms-swift"].text
    one = notes(a_set(images="/a"), a_set(images="/b", relative=0))
    assert 'media_dir: "/a"' in one["LLaMA-Factory"].text


def test_the_short_lines_name_no_file_that_is_not_there_yet():
    short = {trainer: note.short for trainer, note in notes(a_set(container="jsonl", files=("a.jsonl",))).items()}
    assert short["LLaVA"].startswith("first make the file that how_to_train.md tells of, then --data_path")
    assert short["ms-swift"].startswith("ROOT_IMAGE_DIR")
    short = {trainer: note.short for trainer, note in notes(a_set(container="jsonl.gz", files=("a.jsonl.gz",))).items()}
    assert short["LLaVA"].startswith("first make the file")
    assert short["ms-swift"].startswith("first unpack the file, see how_to_train.md; then ROOT_IMAGE_DIR")
    assert short["LLaMA-Factory"].startswith("unpack the file first; dataset_info.json")
    assert not notes(a_set())["LLaVA"].short.startswith("first")


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({}, "--to source --ids-as-strings"),
        ({"mixed_fields": ["k"]}, "--to messages"),
        ({"mixed_images": ["image"]}, "--to messages"),
    ],
)
def test_strings_for_ids_are_offered_where_they_are_enough(fields, remedy):
    facts = a_set(ids={"number": 1, "object": 2, "other": 1}, **fields).facts
    mixture = mixtures("pool", "json", facts)[0]
    assert mixture.words == "the id of `pool` is a number in 1 row and an object in 2 rows and of another type in 1 row"
    assert mixture.remedy == remedy


def test_one_record_is_one():
    (reason,) = why_not_llamafactory(a_set(content_parts=1))
    assert reason == "1 record of `pool` with content in parts"

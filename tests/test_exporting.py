"""`scalselect export`: the chosen rows in another form, read back by who is meant to read them."""

from __future__ import annotations

import gzip
import json

import datasets
import numpy as np
import pytest

import scalselect
from scalselect.dataset.opening import open_pool
from scalselect.errors import OptionError, RunFolderError, WorkError
from scalselect.run_folder import RunFolder
from scored_runs import clustered_vectors
from small_pools import command
from tars import png

ROWS = 30


def turns(number, images=1):
    return [{"from": "human", "value": "<image>\n" * images + f"What is {number}?"}, {"from": "gpt", "value": "A é."}]


def records():
    """Return records with one image, every fourth with two, every seventh with none; ids of several types."""
    found = []
    for row in range(ROWS):
        names = [] if row % 7 == 3 else [f"{row}.png", "0.png"][: 1 + (row % 4 == 0)]
        image = {"image": names[0] if len(names) == 1 else names} if names else {}
        found.append({"id": row if row % 2 else f"row-{row}", **image, "conversations": turns(row, len(names))})
    return found


def scored(folder):
    """Return a run of vectors that any records can be given for."""
    np.save(folder / "X.npy", clustered_vectors(ROWS))
    scalselect.score(representations=folder / "X.npy", output=folder / "run")
    return folder / "run"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "shown").mkdir()
    for row in range(ROWS):
        (tmp_path / "shown" / f"{row}.png").write_bytes(png(row))
    path = tmp_path / "shown" / "pool.json"
    path.write_text(json.dumps(records(), ensure_ascii=False, indent=1))
    return path


@pytest.fixture
def run(tmp_path, data):
    run = scored(tmp_path)
    scalselect.select(run, budget="50%,20", dataset=data)
    return run


def chosen(run, data, label=None):
    result = scalselect.select(run, budget="50%,20", dataset=data)
    return (result.rows if label is None else result.budgets[label]).tolist()


def red(image):
    return image.getpixel((0, 0))[0]


def names_of(row):
    image = records()[row].get("image", [])
    return image if isinstance(image, list) else [image]


@pytest.mark.parametrize("embed", [False, True])
def test_trl_reads_every_chosen_row_with_its_images(run, data, tmp_path, embed, capsys):
    rows = chosen(run, data)
    words = ["export", run, "--to", "trl", "--dataset", data, *(["--embed-images"] if embed else [])]
    assert command(*words) == 0
    path = run / "exported" / "trl.parquet"
    assert str(path) in capsys.readouterr().out
    if embed:
        for file in data.parent.glob("*.png"):
            file.unlink()
    found = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["id"] == [str(records()[row]["id"]) for row in rows]
    for row, kept in zip(rows, found, strict=True):
        assert [red(image) for image in kept["images"]] == [int(name.removesuffix(".png")) for name in names_of(row)]
        blocks = kept["messages"][0]["content"]
        assert [block["type"] for block in blocks] == ["image"] * len(names_of(row)) + ["text"]
        assert blocks[-1]["text"] == f"What is {row}?"
        assert kept["messages"][1] == {"role": "assistant", "content": [{"type": "text", "text": "A é."}]}


def test_messages_are_the_same_samples(run, data):
    exported = scalselect.export(run, to="messages", dataset=data)
    (path,) = exported.files
    assert (path, exported.images, exported.left_out) == (run / "exported" / "messages.jsonl", 0, {})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = chosen(run, data)
    assert len(lines) == exported.records == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert line["id"] == str(records()[row]["id"])
        assert line["images"] == [str(data.parent / name) for name in names_of(row)]
        said = "\n".join([*["<image>"] * len(names_of(row)), f"What is {row}?"])
        assert line["messages"][0] == {"role": "user", "content": said}


def test_llava_gets_what_it_can_train_on_and_the_rest_is_counted(run, data, capsys):
    rows = chosen(run, data)
    several = [row for row in rows if len(names_of(row)) > 1]
    assert several
    assert command("export", run, "--to", "llava", "--dataset", data) == 0
    assert f"left out   {len(several)} with several images" in capsys.readouterr().out
    found = json.loads((run / "exported" / "llava.json").read_text())
    assert [record["id"] for record in found] == [str(records()[row]["id"]) for row in rows if row not in several]
    for record in found:
        assert {turn["from"] for turn in record["conversations"]} == {"human", "gpt"}
        assert "image" not in record or record["image"].startswith(str(data.parent))


@pytest.mark.parametrize("form", ["trl", "messages", "llava"])
def test_an_id_that_is_null_stays_null(tmp_path, data, form):
    data.write_text(json.dumps([{"id": None, "image": "0.png", "conversations": turns(row)} for row in range(ROWS)]))
    run = scored(tmp_path)
    scalselect.select(run, budget=3, dataset=data)
    (path,) = scalselect.export(run, to=form, dataset=data).files
    kind = "parquet" if form == "trl" else "json"
    found = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["id"] == [None] * 3


def test_nothing_for_llava_is_a_failure_and_leaves_no_file(tmp_path, data):
    data.write_text(json.dumps([{"image": ["0.png", "1.png"], "conversations": turns(row, 2)} for row in range(ROWS)]))
    run = scored(tmp_path)
    scalselect.select(run, budget=5, dataset=data)
    with pytest.raises(WorkError, match="no row of the subset can be written for this trainer: 5 with several images"):
        scalselect.export(run, to="llava", dataset=data)
    assert not (run / "exported" / "llava.json").exists()


@pytest.mark.parametrize("kind", ["json", "jsonl", "json.gz", "jsonl.gz"])
def test_the_records_as_they_were_but_for_what_was_asked(tmp_path, data, kind):
    text = data.read_text() if "jsonl" not in kind else "".join(f"{json.dumps(record)}\n" for record in records())
    data.unlink()
    data = data.with_name(f"pool.{kind}")
    data.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    run = scored(tmp_path)
    rows = scalselect.select(run, budget="50%", dataset=data).rows.tolist()
    exported = scalselect.export(run, to="source", absolute_paths=True, ids_as_strings=True, dataset=data)
    assert exported.files == (run / "exported" / f"source.{kind}",)
    pool, copied = open_pool(exported.files[0]), open_pool(run / f"selected.{kind}")
    assert (pool.container, len(pool)) == (kind, len(rows))
    for place, row in enumerate(rows):
        record = records()[row]
        wanted = copied.raw(place).decode()
        for name in {*names_of(row)}:
            wanted = wanted.replace(f'"{name}"', f'"{data.parent / name}"')
        if row % 2:
            wanted = wanted.replace(f'"id": {row}', f'"id": "{row}"')
        assert pool.raw(place).decode() == wanted
        assert json.loads(wanted)["conversations"] == record["conversations"]
    (again,) = scalselect.export(run, to="source", ids_as_strings=True, dataset=data, output=tmp_path / "new").files
    assert {type(json.loads(open_pool(again).raw(i))["id"]) for i in range(len(rows))} == {str}
    assert json.loads(open_pool(again).raw(0)).get("image") == records()[rows[0]].get("image")


def test_every_budget_has_its_own_exports(run, data):
    for label, folder in (("50%", "exported"), ("20", "exported/20")):
        exported = scalselect.export(run, to="messages", budget=label, dataset=data)
        assert exported.files == (run / folder / "messages.jsonl",)
        ids = [json.loads(line)["id"] for line in exported.files[0].read_text().splitlines()]
        assert ids == [str(records()[row]["id"]) for row in chosen(run, data, None if label == "50%" else label)]


def test_exports_go_with_the_choice_they_were_made_of(run, data, tmp_path):
    scalselect.export(run, to="trl", dataset=data)
    elsewhere = scalselect.export(run, to="trl", dataset=data, output=tmp_path / "mine.parquet").files[0]
    scalselect.select(run, budget="50%,20", dataset=data)
    assert (run / "exported" / "trl.parquet").exists()
    scalselect.select(run, budget=5, dataset=data)
    assert not (run / "exported").exists()
    assert elsewhere.exists()


def test_the_guide_is_there_after_an_export(run, data):
    (run / "how_to_train.md").unlink()
    scalselect.export(run, to="trl", dataset=data)
    assert "## TRL" in (run / "how_to_train.md").read_text()


def test_several_data_sets(tmp_path, data):
    second = data.with_name("other.jsonl")
    second.write_text("".join(f"{json.dumps(record)}\n" for record in records()[20:]))
    data.write_text(json.dumps(records()[:20]))
    run = scored(tmp_path)
    rows = scalselect.select(run, budget=12, dataset=[data, second]).rows.tolist()
    exported = scalselect.export(run, to="source", ids_as_strings=True, dataset=[data, second])
    assert [file.relative_to(run).as_posix() for file in exported.files] == [
        "exported/source/pool.json",
        "exported/source/other.jsonl",
    ]
    first = [record["id"] for record in json.loads(exported.files[0].read_text())]
    last = [json.loads(line)["id"] for line in exported.files[1].read_text().splitlines()]
    assert first + last == [str(records()[row]["id"]) for row in rows]
    (path,) = scalselect.export(run, to="messages", dataset=[data, second]).files
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == first + last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tlr"}, r"to must be one of trl, messages, llava, source: 'tlr' \(did you mean `trl`\?\)"),
        ({"to": "trl", "ids_as_strings": True}, "ids_as_strings is an option of exports to `source`, not to `trl`"),
        ({"to": "source", "embed_images": True}, "embed_images is an option of exports to `trl`"),
        ({"to": "source"}, "an export to `source` changes something"),
        ({"to": "trl", "budget": "30%"}, r"no subset of that budget: 30% \(there is 50%, 20\)"),
    ],
)
def test_misuse_writes_nothing(run, data, options, message):
    with pytest.raises(OptionError, match=message):
        scalselect.export(run, dataset=data, **options)
    assert not (run / "exported").exists()


def test_a_file_of_the_user_is_not_overwritten(run, data):
    before = data.read_bytes()
    with pytest.raises(OptionError, match=f"output exists already: {data}"):
        scalselect.export(run, to="messages", dataset=data, output=data)
    assert data.read_bytes() == before


@pytest.mark.parametrize("name", ["mine", "mine.json"])
def test_an_ending_is_added_once_and_what_lies_there_is_kept(run, data, tmp_path, name):
    exported = scalselect.export(run, to="source", ids_as_strings=True, dataset=data, output=tmp_path / name)
    assert exported.files == (tmp_path / "mine.json",)
    with pytest.raises(OptionError, match=r"output exists already: .*mine\.json"):
        scalselect.export(run, to="source", ids_as_strings=True, dataset=data, output=tmp_path / name)


def test_content_in_parts_is_not_rewritten(tmp_path, run, data):
    content = json.loads((run / "selection.json").read_text())
    content["subset"][0]["content_parts"] = 3
    RunFolder(run).write_selection(content)
    with pytest.raises(OptionError, match="3 records have content in parts, whose image paths are not rewritten"):
        scalselect.export(run, to="source", absolute_paths=True, dataset=data)


def test_what_is_missing_is_named(tmp_path, run, data):
    with pytest.raises(RunFolderError, match="vectors alone, and no records to export"):
        scalselect.export(run, to="trl")
    gone = data.parent / names_of(next(row for row in chosen(run, data) if names_of(row)))[0]
    gone.unlink()
    with pytest.raises(WorkError, match=f"an image of the subset is gone: {gone}"):
        scalselect.export(run, to="messages", dataset=data)
    with pytest.raises(WorkError, match=f"an image of the subset cannot be read: {gone}"):
        scalselect.export(run, to="trl", embed_images=True, dataset=data)
    assert not list((run / "exported").glob("*.*"))
    with pytest.raises(RunFolderError, match="nothing was selected yet"):
        scalselect.export(scored(tmp_path / "shown"), to="trl", dataset=data)

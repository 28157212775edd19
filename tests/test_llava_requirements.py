"""What LLaVA's own loader requires of a file, one by one, on subsets as they are written.

LLaVA 1.2.2 cannot be installed from a package registry. What its training script does with a record is restated here
plainly, from running it: it opens a JSON array, takes `image` for one path wherever the key stands, knows the roles
`human` and `gpt` alone, and drops a first turn that is not the user's.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from integrations.guide import Guide
from small_pools import command, scores_of

ROWS = 60
TEXT_ONLY = tuple(range(5, ROWS, 10))
IDS = ["007", 7, 1.0, "2024-01-31", 2**70, "000000033471", "\U0001f98e", -0.5]
ROLES = {"human": "USER", "gpt": "ASSISTANT"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoints, pictures):
    """Return a run over LLaVA records: ids of many types, text-only rows among them, fields that nobody reads."""
    folder = tmp_path_factory.mktemp("llava")
    draw = random.Random(0)
    records = []
    for row in range(ROWS):
        marker, image = ("", {}) if row in TEXT_ONLY else ("<image>\n", {"image": pictures[row % 6].name})
        record = {"id": IDS[row % len(IDS)], "source": draw.choice(["vqa", "ocr"]), "boxes": [[row, 0.5], {"a": None}]}
        turns = [{"from": "human", "value": f"{marker}Is shape {row} red?"}, {"from": "gpt", "value": "No"}]
        if row % 3 == 0:
            turns += [{"from": "human", "value": "Is it large?"}, {"from": "gpt", "value": "Yes"}]
        if row % 7 == 3:
            del record["id"]
        records.append({**record, **image, "conversations": turns})
    (folder / "pool.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    words = ["run", folder / "pool.json", "--images", pictures[0].parent, "--model", checkpoints("llava")]
    assert command(*words, "--budget", "40%", "--text-only", "keep", "--output", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def subset(run):
    return run / "selected.json"


@pytest.fixture(scope="module")
def chosen(run):
    """Return the records of the pool that were chosen, and see that both kinds are among them."""
    pool = json.loads((run.parent / "pool.json").read_text(encoding="utf-8"))
    rows = np.flatnonzero(scores_of(run)["selected"])
    assert len(rows) == int(0.4 * (ROWS - len(TEXT_ONLY))) + len(TEXT_ONLY)
    assert set(TEXT_ONLY) < set(rows.tolist())
    return [pool[row] for row in rows]


def array_of(path):
    """Open a file as LLaVA does: whole, one array of objects."""
    with path.open(encoding="utf-8") as file:
        records = json.load(file)
    assert isinstance(records, list), "no JSON array"
    assert all(isinstance(record, dict) for record in records), "not all objects"
    return records


def picture_of(record, image_folder):
    """Open the picture as LLaVA does, None for a record without the key."""
    if "image" not in record:
        return None
    return Image.open(image_folder / record["image"]).convert("RGB")


def prompt_of(record):
    """Return role and text of each turn as LLaVA sees them."""
    turns = record["conversations"]
    seen = [(ROLES[turn["from"]], turn["value"]) for turn in turns]
    assert seen[0][0] == "USER", "the first turn is not the user's, and is dropped"
    for place, (role, _) in enumerate(seen):
        assert role == ("USER", "ASSISTANT")[place % 2], "the roles do not alternate"
    return seen


def test_json_load_reads_an_array(subset, chosen):
    assert len(array_of(subset)) == len(chosen)


def test_image_is_one_string_where_the_key_stands(subset):
    for record in array_of(subset):
        assert isinstance(record.get("image", "a path"), str)
        assert record.get("image") != ""


def test_a_row_without_a_picture_gets_no_image_key(subset, chosen):
    records = array_of(subset)
    assert ["image" in record for record in records] == ["image" in record for record in chosen]
    assert sum("image" not in record for record in records) == len(TEXT_ONLY)
    assert not any("images" in record for record in records)


def test_turns_are_from_and_value_of_human_and_gpt(subset, chosen):
    for record, source in zip(array_of(subset), chosen, strict=True):
        assert all(set(turn) == {"from", "value"} and turn["from"] in ROLES for turn in record["conversations"])
        assert prompt_of(record) == prompt_of(source)


def test_there_is_a_marker_where_there_is_a_picture_and_only_there(subset):
    for record in array_of(subset):
        markers = [turn["value"].count("<image>") for turn in record["conversations"]]
        assert markers == [int("image" in record), *[0] * (len(markers) - 1)]


def test_ids_have_the_value_and_the_type_they_had(subset, chosen):
    ids = [record.get("id", "absent") for record in array_of(subset)]
    wanted = [record.get("id", "absent") for record in chosen]
    assert ids == wanted
    assert [type(one) for one in ids] == [type(one) for one in wanted]
    assert {str, int, float} <= {type(one) for one in ids}


def test_nothing_else_of_a_record_changed(subset, chosen):
    assert [json.dumps(record) for record in array_of(subset)] == [json.dumps(record) for record in chosen]


def test_the_image_folder_that_fits_is_that_of_the_pool(subset, chosen, pictures):
    for record, source in zip(array_of(subset), chosen, strict=True):
        picture = picture_of(record, pictures[0].parent)
        assert (picture is None) == ("image" not in source)
        if picture:
            assert picture.tobytes() == Image.open(pictures[0].parent / source["image"]).convert("RGB").tobytes()


def test_the_flags_that_the_page_gives_fit(run, subset, pictures):
    flags = Guide.read(run).llava()
    assert flags == {"data_path": str(subset), "image_folder": str(pictures[0].parent)}
    shown = [picture_of(record, Path(flags["image_folder"])) for record in array_of(Path(flags["data_path"]))]
    assert sum(picture is None for picture in shown) == len(TEXT_ONLY)


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"image": None, "conversations": []}, TypeError),
        ({"image": [], "conversations": []}, TypeError),
        ({"image": ["picture-0000.png"], "conversations": []}, TypeError),
        ({"image": "no-such.png", "conversations": []}, FileNotFoundError),
    ],
)
def test_opening_a_picture_can_fail(record, error, pictures):
    with pytest.raises(error):
        picture_of(record, pictures[0].parent)


@pytest.mark.parametrize("roles", [["system", "human", "gpt"], ["user", "assistant"], ["gpt", "human"], ["human"] * 2])
def test_reading_turns_can_fail(roles):
    with pytest.raises((KeyError, AssertionError)):
        prompt_of({"conversations": [{"from": role, "value": "a"} for role in roles]})


def test_reading_the_array_can_fail(tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": 1}\n{"id": 2}\n', encoding="utf-8")
    with pytest.raises(json.JSONDecodeError):
        array_of(lines)

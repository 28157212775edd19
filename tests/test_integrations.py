"""How `make integrations` compares: it must see every way in which a trainer can change, drop or replace rows."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from integrations.comparing import Outcome, differences
from integrations.consumers.reporting import MARK, pixels_of
from integrations.environments import HERE
from integrations.expected import Conversation, as_llamafactory, as_recorded, as_swift, as_trl
from integrations.report import report
from integrations.roster import consumers
from integrations.run import printed_results
from integrations.subsets import Subset, one_fault
from integrations.trl_files import write_faulty_trl, write_trl

ROOT = Path(__file__).parents[1]
TALK = Conversation(
    "a",
    (
        ("system", "Be brief."),
        ("user", "<image>\nIs it red?"),
        ("assistant", "No"),
        ("user", "And <image>?"),
        ("assistant", "Yes"),
    ),
    ("1", "2"),
)
ASKED = Conversation("b", (("user", "<image>\nIs it red?"),), ("1",))


@pytest.fixture
def subsets(tmp_path):
    """Return a subset in LLaVA format and one of messages, of six rows, the fourth without a picture."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"images/{number}.png")
    llava, messages = [], []
    for row in range(6):
        name, text = f"images/{row % 3}.png", f"question {row}"
        shown = row != 3
        question = f"<image>\n{text}" if shown else text
        turns = [("human", question), ("gpt", "yes")]
        record = {"id": f"row-{row}", "conversations": [{"from": role, "value": value} for role, value in turns]}
        llava.append(record | ({"image": name} if shown else {}))
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
        messages.append({"id": f"row-{row}", "messages": turns} | ({"images": [name]} if shown else {}))
    (tmp_path / "selected.json").write_text(json.dumps(llava))
    (tmp_path / "selected.jsonl").write_text("".join(json.dumps(record) + "\n" for record in messages))
    paths = {"llava": tmp_path / "selected.json", "messages": tmp_path / "selected.jsonl"}
    return {name: Subset.read(path, tmp_path) for name, path in paths.items()}


@pytest.fixture
def rows(subsets):
    return subsets["llava"].expected(as_trl)


def reported(rows, **changed):
    """Return what a consumer prints that did everything right, but for `changed`."""
    result = {
        "versions": {"trainer": "1.0"},
        "error": None,
        "rows_in": len(rows),
        "rows_kept": len(rows),
        "ids": [row.id for row in rows],
        "texts": [row.text.replace("<image>", "<image>" * 4) for row in rows],
        "images": [list(row.images) for row in rows],
        "losses": [3.0, 2.5],
    }
    return result | changed


def found(rows, **changed):
    return differences(rows, reported(rows, **changed), image_tokens=4)


def test_texts_are_as_the_templates_print_them():
    assert as_llamafactory(TALK) == (
        "Be brief. USER: <image>\nIs it red? ASSISTANT: No</s> USER: And <image>? ASSISTANT: Yes</s>"
    )
    assert as_llamafactory(ASKED).endswith(
        "polite answers to the user's questions. USER: <image>\nIs it red? ASSISTANT:"
    )
    assert as_swift(TALK) == (
        "<s>Be brief. USER: <image>\nIs it red?\nASSISTANT: No</s>USER: And <image>?\nASSISTANT: Yes</s>"
    )
    assert as_trl(TALK) == "Be brief. USER: <image> Is it red? ASSISTANT: No USER: <image> And ? ASSISTANT: Yes"
    assert as_recorded(ASKED) == "user: <image>\nIs it red?"


def test_both_formats_say_the_same(subsets):
    assert subsets["llava"].expected(as_swift) == subsets["messages"].expected(as_swift)
    assert [len(row.images) for row in subsets["llava"].expected(as_swift)] == [1, 1, 1, 0, 1, 1]


def test_what_is_as_it_must_be_gives_no_difference(rows):
    assert found(rows) == []
    assert found(rows, rows_in=None, ids=None) == []
    texts = [text.replace(" ", " \n ") for text in reported(rows)["texts"]]
    assert found(rows, texts=texts) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ids", "7", "id of row 1: '7' for 'row-1'"),
        ("ids", 1, "id of row 1: 1 for 'row-1'"),
        ("texts", "<image> question 1", "text of row 1: "),
        ("texts", "USER: <image><image><image><image> question 2 ASSISTANT: yes", "text of row 1: "),
        ("texts", "USER: <image><image><image> question 1 ASSISTANT: yes", "text of row 1: "),
        ("images", [], "images of row 1: [] for ['"),
        ("images", ["0"], "images of row 1: ['0'] for ['"),
    ],
)
def test_a_changed_row_is_seen(rows, name, value, said):
    changed = [*reported(rows)[name]]
    changed[1] = value
    (line,) = found(rows, **{name: changed})
    assert line.startswith(said)


def test_a_dropped_or_replaced_row_is_seen(rows):
    whole = reported(rows)
    fewer = {name: whole[name][:-1] for name in ("ids", "texts", "images")}
    assert "rows_kept is 5, and the file has 6 rows" in found(rows, **fewer, rows_kept=5)
    assert "text of row 5: None for 'USER: <image> question 5 ASSISTANT: yes'" in found(rows, texts=fewer["texts"])
    more = [*whole["ids"], "row-0"]
    assert found(rows, ids=more) == ["id of row 6: 'row-0' for None"]
    assert found(rows, rows_in=7) == ["rows_in is 7, and the file has 6 rows"]
    replaced = [whole["texts"][2] if row == 1 else text for row, text in enumerate(whole["texts"])]
    assert len(found(rows, texts=replaced)) == 1


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, float("nan")], [0.0, 1.0], [1.0, float("inf")]])
def test_steps_that_were_not_trained_are_seen(rows, losses):
    assert len(found(rows, losses=losses)) == 1
    assert differences(rows, reported(rows, losses=losses), image_tokens=4, trained=False) == []


def test_ids_of_equal_value_and_other_type_differ(rows):
    numbered = [replace(row, id=number) for number, row in enumerate(rows)]
    assert found(numbered) == []
    assert len(found(numbered, ids=[float(row.id) for row in numbered])) == 6


def outcome(found, *, fault=None, sign=None, result=None):
    return Outcome("Trainer", "llava", fault, sign, 6, result or {"versions": {}}, found)


def test_a_fault_must_be_found_by_its_sign():
    assert outcome([]).as_it_must_be
    assert not outcome(["text of row 1: 'a' for 'b'"]).as_it_must_be
    assert outcome(["images of row 1: [] for ['a']"], fault="picture", sign="^images of row 1").as_it_must_be
    assert not outcome([], fault="picture", sign="^images of row 1").as_it_must_be
    assert not outcome(["it failed: OSError"], fault="picture", sign="^images of row 1").as_it_must_be
    assert not replace(outcome(["images of row 1"], fault="picture", sign="images"), result=None).as_it_must_be


def test_known_faults(subsets, tmp_path):
    whole = subsets["llava"].records
    assert one_fault(whole, "no answer")[1]["conversations"] == whole[1]["conversations"][:1]
    assert one_fault(whole, "missing picture")[1]["image"] == "images/no-such-picture.png"
    assert [record["id"] for record in one_fault(whole, "mixed ids")[:3]] == [1, "007", "row-2"]
    with pytest.raises(ValueError, match="no such fault"):
        one_fault(whole, "no such fault")
    (tmp_path / "faults").mkdir()
    for subset in subsets.values():
        faulty = subset.with_fault("missing picture", tmp_path / "faults")
        assert Subset.read(faulty.path, tmp_path) == faulty
        assert [row.images for row in faulty.expected(as_swift)].count((None,)) == 1


def test_a_file_for_trl_has_blocks_of_two_keys_and_its_faults(subsets, tmp_path):
    path = write_trl(subsets["messages"], tmp_path / "trl.parquet")
    rows = pq.read_table(path).to_pylist()
    assert rows[0]["messages"][0]["content"] == [
        {"type": "image", "text": None},
        {"type": "text", "text": "question 0"},
    ]
    assert [len(row["images"]) for row in rows] == [1, 1, 1, 0, 1, 1]
    wrong = pq.read_table(write_faulty_trl(path, "marker in the text", tmp_path / "a.parquet")).to_pylist()
    assert wrong[1]["messages"][0]["content"][1]["text"] == "<image>\nquestion 1"
    wrong = pq.read_table(write_faulty_trl(path, "another picture", tmp_path / "b.parquet")).to_pylist()
    assert wrong[1]["images"] == rows[0]["images"]
    assert wrong[:1] + wrong[2:] == rows[:1] + rows[2:]


def test_every_consumer_has_clean_files_and_a_fault(subsets, tmp_path):
    (tmp_path / "work").mkdir()
    roster = consumers(subsets, tmp_path / "model", tmp_path / "work")
    for consumer in roster:
        assert (ROOT / "integrations/consumers" / consumer.script).is_file()
        assert (HERE / f"requirements-{consumer.environment}.txt").is_file()
        assert {case.fault is None for case in consumer.cases} == {True, False}
        assert all((case.fault is None) == (case.sign is None) for case in consumer.cases)
        json.dumps([case.entry for case in consumer.cases])
    assert len({consumer.title for consumer in roster}) == len(roster)


@pytest.mark.parametrize("path", sorted(HERE.glob("requirements-*.txt")), ids=lambda path: path.stem)
def test_every_requirement_is_pinned_and_torch_is_left_to_one_place(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = [line.split("==")[0].lower() for line in lines]
    assert len(set(names)) == len(names)
    assert "torch" not in names


def test_scripts_of_consumers_import_nothing_of_ours():
    for path in (ROOT / "integrations/consumers").glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        assert not [name for name in imported if name.split(".")[0] in {"scalselect", "integrations"}]


def test_results_are_found_between_what_trainers_print(tmp_path):
    log = tmp_path / "log"
    lines = ["loading", f'{MARK}{{"name": "0", "error": null}}', "  50%|#####", f'{MARK}{{"name": "1", "error": "x"}}']
    log.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    assert printed_results(log) == {"0": {"name": "0", "error": None}, "1": {"name": "1", "error": "x"}}


def test_pictures_are_told_apart_however_they_are_given(tmp_path):
    red = Image.new("RGB", (2, 3), (200, 0, 0))
    red.save(tmp_path / "red.png")
    content = (tmp_path / "red.png").read_bytes()
    ways = [red, content, str(tmp_path / "red.png"), {"bytes": content, "path": None}]
    ways.append({"bytes": None, "path": str(tmp_path / "red.png")})
    assert len({pixels_of(way) for way in ways}) == 1
    assert pixels_of(red) != pixels_of(red.transpose(Image.Transpose.ROTATE_90))
    assert pixels_of(red) != pixels_of(Image.new("RGB", (2, 3), (201, 0, 0)))


def test_the_report_tells_what_is_wrong(rows):
    good = outcome([], result=reported(rows))
    bad = outcome(["rows_kept is 5, and the file has 6 rows"], result=reported(rows, rows_kept=5))
    noticed = outcome(["images of row 1: x"], fault="picture", sign="images", result=reported(rows))
    unnoticed = outcome([], fault="picture", sign="images", result=reported(rows))
    text = report([good, bad, noticed, unnoticed, replace(bad, consumer="Other", result=None)])
    assert "| Trainer | llava | - | 6 | 6 | 3.00, 2.50 | as it must be |" in text
    assert "| Trainer | llava | - | 6 | 5 | 3.00, 2.50 | **1 differences** |" in text
    assert "| the fault |" in text
    assert "| **not the fault** |" in text
    assert "row 5: USER: <image> x 4 question 5 ASSISTANT: yes" in text
    assert "### Other" in text

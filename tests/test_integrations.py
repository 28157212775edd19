"""How `make integrations` compares: it must see every way in which a trainer can change, drop or replace rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from integrations.comparing import Outcome, differences
from integrations.consumers.reporting import MARK, pixels_of
from integrations.expected import Conversation, as_llamafactory, as_recorded, as_swift, as_trl
from integrations.report import report
from integrations.run import printed_results
from small_subsets import small_subsets

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
    return small_subsets(tmp_path)


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
    text = report([good, bad, noticed, unnoticed, replace(bad, consumer="Other", result=None)], ["all: 3 s"])
    assert "| Trainer | llava | - | 6 | 6 | 3.00, 2.50 | as it must be |" in text
    assert "| Trainer | llava | - | 6 | 5 | 3.00, 2.50 | **1 differences** |" in text
    assert "| the fault |" in text
    assert "| **not the fault** |" in text
    assert "row 5: USER: <image> x 4 question 5 ASSISTANT: yes" in text
    assert "### Other" in text
    assert "- all: 3 s\n" in text

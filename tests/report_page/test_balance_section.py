"""Balance: what is marked as over or under, in which order values stand, and the conclusion."""

from types import SimpleNamespace

import numpy as np
import pytest

from scalselect.diagnostics.balance import balance_measures
from scalselect.report_page.balance_section import balance_section
from scalselect.report_page.page_warnings import is_starved, rows_due


def section_of(chosen=1000, selection=None, **measured):
    rows = {"chosen": chosen, "chosen_without_vector": 0}
    diagnostics = {"rows": rows, "balance": measured}
    return balance_section(SimpleNamespace(selection=selection, diagnostics=diagnostics)).content


def measures(names, pool, chosen, random=None):
    counts = (np.array(numbers, dtype=np.int64) for numbers in (pool, chosen, random or pool))
    return balance_measures(names, *counts)


def marks(content):
    return {row["value"]: (row["mark"], row["words"].replace("\u202f", " ")) for row in content["tables"][0]["rows"]}


def test_marks_say_which_way_and_how_far():
    counted = measures(["a", "b", "c", "d", "e"], [500, 200, 200, 60, 40], [300, 400, 190, 109, 1])
    found = marks(section_of(stratum=counted))
    assert found["a"] == ("under", "▼ under: 0.6 times")
    assert found["b"] == ("over", "▲ over: 2 times")
    assert found["c"] == ("alike", "not marked")
    assert found["d"][0] == "over"
    assert found["e"][0] == "under"


def test_a_difference_of_few_rows_is_chance():
    few = measures(["a", "b"], [500, 500], [13, 7])
    assert {mark for mark, _ in marks(section_of(chosen=20, stratum=few)).values()} == {"alike"}
    many = measures(["a", "b"], [500, 500], [1300, 700])
    assert {mark for mark, _ in marks(section_of(chosen=2000, stratum=many)).values()} == {"over", "under"}


def test_the_bound_is_a_chance_of_one_in_a_hundred():
    # Of 100 rows drawn from a pool in which 30 % are of one kind, 19 or fewer are with a chance of 0.0089, 20 or fewer
    # with one of 0.0165; 41 or more with one of 0.0125, 42 or more with one of 0.0072.
    for rows, mark in ((19, "under"), (20, "alike"), (41, "alike"), (42, "over")):
        counted = measures(["rest", "a"], [700, 300], [100 - rows, rows])
        assert marks(section_of(chosen=100, answer_type=counted))["a"][0] == mark


@pytest.mark.parametrize(("pool", "marked"), [(50, True), (40, False)])
def test_none_of_at_least_five_is_marked(pool, marked):
    counted = measures(["rest", "a"], [1000 - pool, pool], [100, 0])
    found = marks(section_of(chosen=100, answer_type=counted))
    assert found["a"] == (("gone", "▼ none chosen") if marked else ("alike", "not marked"))


def test_what_the_page_warns_of_is_marked():
    counted = measures(["rest", "a"], [945, 55], [98, 2])  # with a chance of 0.08, but less than half of 5.5
    strata = {"rest": {"candidates": 945, "chosen": 98}, "a": {"candidates": 55, "chosen": 2}}
    selection = {"strata": strata}
    assert is_starved(*rows_due(SimpleNamespace(selection=selection))["stratum"]["a"])
    assert marks(section_of(100, selection, stratum=counted))["a"] == ("under", "▼ under: 0.364 times")
    strata["a"]["candidates"] = 40  # the others had no vector that could be chosen by
    assert marks(section_of(100, selection, stratum=counted))["a"] == ("alike", "not marked")


def test_the_headline_takes_the_property_that_differs_most_beside_chance():
    wide = measures(["a", "b"], [500, 500], [300, 700], [350, 650])  # 20 % beside 15 %
    narrow = measures([2, 4], [500, 500], [400, 600], [480, 520])  # 10 % beside 2 %
    told = section_of(answer=wide, turns=narrow)["conclusion"].replace("\u202f", " ")
    assert "most in “turns of the conversation”: 10 % of them" in told
    assert told.endswith(", 5 times the 2 % of a random choice.")
    even = measures([2, 4], [500, 500], [400, 600], [500, 500])
    told = section_of(answer=wide, turns=even)["conclusion"].replace("\u202f", " ")
    assert told.endswith("10 % of them would have to be others to match it, against 0 % of a random choice.")


def test_a_long_value_can_be_opened():
    name = "a-very-long-name-of-a-stratum/" * 4
    (row, other) = section_of(stratum=measures([name, "b"], [600, 400], [500, 500]))["tables"][0]["rows"]
    assert (row["value"], row["short"]) == (name, f"{name[:48]} ...")
    assert other["short"] == other["value"] == "b"


def test_what_is_gone_is_told():
    content = section_of(answer_type=measures(["sentence", "number"], [900, 100], [1000, 0]))
    assert marks(content)["number"] == ("gone", "▼ none chosen")
    assert "kind of answer" in content["conclusion"]
    assert "Nothing of 1 value was chosen." in content["conclusion"]


def test_a_choice_like_a_random_one():
    content = section_of(turns=measures([2, 4], [500, 500], [505, 495], [490, 510]))
    assert content["conclusion"].startswith("The chosen rows are spread as those of a random choice")


@pytest.mark.parametrize(
    ("name", "values", "order"),
    [
        ("length", ["128 to 191", "16 to 23", "below 16", "1,024 to 1,535", "not known"], [2, 1, 0, 3, 4]),
        ("turns", [10, 2, 4], [1, 2, 0]),
        ("stratum", ["x", "y", "z"], [2, 1, 0]),
    ],
)
def test_order(name, values, order):
    pool = [100 * (i + 1) for i in range(len(values))]
    chosen = [pool[i] + (10 if i % 2 else -9) for i in range(len(values))]
    (table,) = section_of(**{name: measures(values, pool, chosen)})["tables"]
    assert [row["value"] for row in table["rows"]] == [str(values[place]) for place in order]


def test_values_that_are_not_told_are_summed_up():
    chosen = [11, 9, 12, 8, 13, 7] + [10] * 24
    (table,) = section_of(answer=measures([f"v{i:02}" for i in range(30)], [10] * 30, chosen))["tables"]
    words = "24 further values, together 80 % of the pool and 80 % of the chosen rows"
    assert table["rest"].replace("\u202f", " ").startswith(words)
    assert [row["value"] for row in table["rows"]] == [f"v{i:02}" for i in range(6)]


def test_one_data_set_is_no_property():
    assert section_of(source=measures(["a"], [10], [5]))["tables"] == []

"""Balance: what is marked as over or under, in which order values stand, and the conclusion."""

from types import SimpleNamespace

import numpy as np
import pytest

from scalselect.diagnostics.balance import balance_measures
from scalselect.report_page.balance_section import balance_section


def section_of(chosen=1000, **measured):
    rows = {"chosen": chosen, "chosen_without_vector": 0}
    return balance_section(SimpleNamespace(diagnostics={"rows": rows, "balance": measured})).content


def measures(names, pool, chosen, random=None):
    counts = (np.array(numbers, dtype=np.int64) for numbers in (pool, chosen, random or pool))
    return balance_measures(names, *counts)


def marks(content):
    return {row["value"]: (row["mark"], row["words"].replace("\u202f", " ")) for row in content["tables"][0]["rows"]}


def test_marks_say_which_way_and_how_far():
    counted = measures(["a", "b", "c", "d", "e"], [500, 200, 200, 60, 40], [300, 400, 190, 109, 1])
    found = marks(section_of(stratum=counted))
    assert found["a"] == ("under", "▼ under: 0.6 times its share")
    assert found["b"] == ("over", "▲ over: 2 times its share")
    assert found["c"] == ("alike", "within chance")
    assert found["d"][0] == "over"
    assert found["e"][0] == "under"


def test_a_difference_of_few_rows_is_chance():
    few = measures(["a", "b"], [500, 500], [13, 7])
    assert {mark for mark, _ in marks(section_of(chosen=20, stratum=few)).values()} == {"alike"}
    many = measures(["a", "b"], [500, 500], [1300, 700])
    assert {mark for mark, _ in marks(section_of(chosen=2000, stratum=many)).values()} == {"over", "under"}


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

"""What kind of answer a text is, and the ranges that lengths fall into."""

import numpy as np
import pytest

from scalselect.diagnostics.answer_words import answer_type
from scalselect.diagnostics.length_bins import STARTS, length_bins

KINDS = {
    "yes or no": ["Yes", "no.", "No, never", "YES!", "yes it is"],
    "number": ["3", "-3.5", "1,000", "$20", "20%", "20 %", "1/2", "10:30", "two", "Seven.", "5 km", "3rd", "2."],
    "option letter": [
        "B",
        "(B)",
        "B.",
        "(b".upper() + ")",
        "A. Two cats",
        "C: a red car",
        "(D) on the left side of it",
    ],
    "words": ["red", "a dog", "on the left", "Noah", "no-one", "two cats", "7th avenue", "b", "..."],
    "sentence": [
        "Yes, there is a dog.",
        "It is on the left.",
        "2 dogs and a cat",
        "A dog runs fast",
        "left of the tree",
    ],
    "none": ["", "  ", "\n"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in KINDS.items() for text in texts])
def test_kinds_of_answers(kind, text):
    assert answer_type(text) == kind


def test_long_answers_take_no_time():
    assert answer_type("1" * 1_000_000 + " x y z w") == "sentence"
    assert answer_type("A. " + "x " * 1_000_000) == "option letter"


def test_every_length_falls_into_the_range_that_is_named():
    lengths = np.concatenate([np.arange(0, 3000), [-1, -5, 10**9, 10**14]])
    names, codes = length_bins(lengths)
    assert names[0] == "not known"
    assert set(names) == {names[code] for code in codes}
    for length, code in zip(lengths.tolist(), codes.tolist(), strict=True):
        name = names[code].replace(",", "")
        if length < 0:
            assert name == "not known"
        elif length < 16:
            assert name == "below 16"
        elif length > STARTS[-1]:
            assert name == f"{STARTS[-1]} or more"
        else:
            low, high = map(int, name.split(" to "))
            assert low <= length <= high
            assert high + 1 - low in (low // 2, low // 3)


def test_ranges_are_told_in_rising_order():
    names, _ = length_bins(np.array([700, 20, 50, 20]))
    assert names == ["16 to 23", "48 to 63", "512 to 767"]

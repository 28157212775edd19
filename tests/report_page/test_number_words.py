"""Numbers in words: enough digits to be told apart, and none that say more than is known."""

import pytest

from scalselect.report_page.number_words import counted, listed, number, percent, times


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"),
        (1e-9, "under 0.01 %"),
        (0.0001, "0.01 %"),
        (0.0042, "0.42 %"),
        (0.0149, "1.5 %"),
        (0.03, "3 %"),
        (0.165, "16 %"),
        (0.4149, "41 %"),
        (0.9996, "99.96 %"),
        (0.99999999, "over 99.99 %"),
        (1.0, "100 %"),
        (0.996, "99.6 %"),
    ],
)
def test_percent(share, words):
    assert percent(share).replace("\u202f", " ") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.0604245, "0.0604"),
        (1250.4, "1,250"),
        (3.0, "3"),
        (2.1e-7, "2.1 \N{MULTIPLICATION SIGN} 10⁻⁷"),
        (1e-7, "10⁻⁷"),
        (12_345_678.0, "1.23 \N{MULTIPLICATION SIGN} 10⁷"),
        (-0.5, "-0.5"),
        (float("inf"), "none"),
        (999.9, "1,000"),
    ],
)
def test_number(value, words):
    assert number(value).replace("\u202f", " ") == words


def test_times():
    assert [times(value) for value in (1.68, 33.2, 154_758.0)] == ["1.7 times", "33 times", "155,000 times"]


def test_counted_and_listed():
    assert [counted(1, "row"), counted(3200, "row"), counted(2, "stratum", "strata")] == [
        "1 row",
        "3,200 rows",
        "2 strata",
    ]
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]

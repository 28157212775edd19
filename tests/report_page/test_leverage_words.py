"""Sentences on leverage: they look at all of the curve, and say what was chosen beside what could have been."""

import numpy as np
import pyarrow as pa
import pytest

from scalselect.report_page.budget_shares import BudgetShare
from scalselect.report_page.leverage_curve import leverage_curve
from scalselect.report_page.leverage_words import few_hold_most, words_of_held, words_of_sorted


def curve_of(scores):
    return leverage_curve(pa.table({"leverage_score": scores, "selected": pa.nulls(len(scores), pa.bool_())}), [])


def plain(words):
    return words.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.linspace(0.9, 1.1, 100), "Scores are nearly alike"),
        (
            np.r_[np.linspace(0.9, 1.1, 100), 500.0],
            "One row stands far above all others: the highest score is 499 times",
        ),
        (np.r_[np.linspace(0.9, 1.1, 400), [200.0] * 4], "4 rows stand far above all others"),
        (
            np.r_[np.linspace(0.9, 1.1, 99), 9.0],
            "Most scores are alike, those at the ends are not: the highest is 9 times",
        ),
        (np.r_[np.linspace(0.9, 1.1, 99), 0.01], "the median is 100 times the lowest."),
        (np.r_[np.linspace(0.9, 1.1, 99), 0.0], "the lowest is 0."),
        (np.r_[np.full(80, 1.0), np.full(20, 2.0)], "Scores fall gently"),
        (np.r_[np.full(80, 1.0), np.full(20, 5.0)], "Scores fall steeply"),
        (np.r_[np.zeros(80), np.full(20, 5.0)], "More than half of the rows have no leverage at all."),
    ],
)
def test_how_scores_fall(scores, words):
    assert words in words_of_sorted(curve_of(scores))


def test_few_rows_that_hold_most():
    assert few_hold_most(np.array([1.0, 1.0])) is None
    assert few_hold_most(np.array([1.0, 3.0, 1.0])) == (1, pytest.approx(0.6))
    assert few_hold_most(np.r_[np.full(2, 200.0), np.ones(198)]) == (2, pytest.approx(400 / 598))
    assert few_hold_most(np.r_[np.full(3, 100.0), np.ones(197)]) is None


def test_a_choice_that_is_not_the_best_is_held_against_it():
    curve = curve_of(np.arange(1.0, 101.0))
    first = BudgetShare(asked="40 %", rows=40, held=0.5)
    second = BudgetShare(asked="10 rows", rows=10, held=0.15)
    told = plain(words_of_held(curve, [first, second]))
    assert "The best 40 % of the rows hold 64 % of the leverage" in told
    assert "The chosen rows, which are not simply the best, hold 50 %." in told
    assert "The rows chosen for 10 rows hold 15 %; as many of the best would hold 19 %." in told
    best = BudgetShare(asked="40 %", rows=40, held=curve.held_by(40))
    assert "chosen" not in words_of_held(curve, [best])
    assert "chosen" not in words_of_held(curve, [BudgetShare(asked="40 %", rows=40, held=None)])

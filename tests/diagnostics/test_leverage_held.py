"""What is told of scores, of the cut and of the spectrum, counted a second way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.diagnostics.leverage_held import CURVE_PERCENT, cut_measures, leverage_measures
from scalselect.diagnostics.spectrum import spectrum_measures
from scalselect.records import DominantSubspace


def test_scores_and_the_share_held():
    scores = np.array([0.5, 0.1, 0.2, 0.2, 1e-5])
    found = leverage_measures(scores, np.array([True, False, False, True, False]))
    assert found["sum"] == pytest.approx(1.00001)
    assert found["held"] == pytest.approx(0.7 / 1.00001)
    assert (found["highest"], found["median"], found["low"]) == (0.5, 0.2, 1)
    assert found["mean"] == pytest.approx(0.200002)


@given(st.integers(1, 3000))
def test_the_curve_is_that_of_the_best_rows(rows):
    scores = np.random.default_rng(rows).exponential(size=rows)
    best = sorted(scores.tolist(), reverse=True)
    curve = leverage_measures(scores, np.zeros(rows, dtype=np.bool_))["curve"]
    assert [point["percent"] for point in curve] == list(CURVE_PERCENT)
    for point in curve:
        assert point["rows"] == max(1, round(point["percent"] * 10) * rows // 1000)
        assert point["held"] == pytest.approx(sum(best[: point["rows"]]) / sum(best))
    assert curve[-1]["held"] == pytest.approx(1.0)
    assert curve[-1]["rows"] == rows


def test_ties_on_both_sides_of_the_cut():
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.5 * (1 - 9e-7), 0.5 * (1 - 2e-6), 0.1])
    found = cut_measures(scores, np.array([True, True, False, False, False, False, False]))
    assert found == {
        "lowest_score": 0.5,
        "higher_not_chosen": 0,
        "ties": {"chosen": 1, "not_chosen": 2},
        "near_ties": {"chosen": 1, "not_chosen": 3},
    }


def test_a_choice_that_is_not_by_score_alone():
    found = cut_measures(np.array([0.9, 0.5, 0.5, 0.1]), np.array([False, True, False, True]))
    assert found == {"lowest_score": 0.1, "higher_not_chosen": 2, "ties": None, "near_ties": None}


def test_everything_chosen_and_nothing_chosen():
    scores = np.array([0.3, 0.3, 0.3])
    assert cut_measures(scores, scores > 0)["ties"] == {"chosen": 3, "not_chosen": 0}
    assert set(cut_measures(scores, scores < 0).values()) == {None}


def test_the_spectrum():
    subspace = DominantSubspace(
        mean=np.zeros(4),
        basis=np.eye(4)[:, :2],
        singular_values=np.array([3.0, 2.0]),
        energy=13 / 15,
        gap=2.0,
        largest_dimension_energy=0.6,
        rows=9,
        spectrum=np.array([3.0, 2.0, 1.0]),
        total_energy=15.0,
    )
    found = spectrum_measures(subspace, 0.8)
    assert found["energies"].tolist() == pytest.approx([9 / 15, 4 / 15, 1 / 15])
    assert found["cumulative_energy"].tolist() == pytest.approx([9 / 15, 13 / 15, 14 / 15])
    assert found["cumulative_energy"][found["k"] - 1] == pytest.approx(found["energy"])
    assert (found["known"], found["gap"], found["threshold"]) == (3, 2.0, 0.8)

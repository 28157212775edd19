import numpy as np
import pytest

from scalselect.selection.top_leverage import select_top_leverage


@pytest.mark.parametrize("seed", range(10))
def test_the_choice_is_that_of_sorted_pairs(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, size=150) / 32.0
    rows = rng.permutation(1000)[:150].astype(np.int64)
    pairs = sorted(zip((-scores).tolist(), rows.tolist(), strict=True))
    for n in (1, 2, 75, 149, 150):
        chosen = select_top_leverage(scores, rows, n)
        lowest = -pairs[n - 1][0]
        assert chosen.rows.tolist() == sorted(row for _, row in pairs[:n])
        assert chosen.rows.dtype == np.int64
        assert chosen.eligible == 150
        assert chosen.lowest_score == lowest
        assert chosen.ties_at_cut == scores.tolist().count(lowest)


def test_ties_at_the_cut_are_filled_in_pool_order():
    scores = np.array([0.5, 0.7, 0.5, 0.5, 0.1, 0.5])
    rows = np.array([50, 40, 10, 30, 0, 20])
    chosen = select_top_leverage(scores, rows, 3)
    assert chosen.rows.tolist() == [10, 20, 40]
    assert chosen.lowest_score == 0.5
    assert chosen.ties_at_cut == 4


def test_the_choice_does_not_depend_on_the_order_given():
    rng = np.random.default_rng(1)
    scores, rows = rng.integers(0, 9, size=80) / 8.0, np.arange(80)
    order = rng.permutation(80)
    left, right = select_top_leverage(scores, rows, 31), select_top_leverage(scores[order], rows[order], 31)
    assert left.rows.tolist() == right.rows.tolist()
    assert (left.lowest_score, left.ties_at_cut) == (right.lowest_score, right.ties_at_cut)


def test_the_scores_given_are_not_changed():
    scores, rows = np.array([0.1, 0.3, 0.2]), np.array([2, 1, 0])
    select_top_leverage(scores, rows, 2)
    assert (scores.tolist(), rows.tolist()) == ([0.1, 0.3, 0.2], [2, 1, 0])


@pytest.mark.parametrize("n", [0, -1, 4])
def test_numbers_of_rows_out_of_range_are_refused(n):
    with pytest.raises(ValueError, match=f"n must lie between 1 and the 3 eligible rows: {n}"):
        select_top_leverage(np.array([0.1, 0.3, 0.2]), np.arange(3), n)

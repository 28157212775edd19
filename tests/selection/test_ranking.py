import numpy as np
import pytest

from scalselect.selection.ranking import order_by_score, rank_rows


def tied_scores(rng, size):
    return rng.integers(0, 40, size=size) / 64.0, rng.permutation(10 * size)[:size].astype(np.int64)


@pytest.mark.parametrize("seed", range(10))
def test_ranks_are_those_of_sorted_pairs(seed):
    scores, rows = tied_scores(np.random.default_rng(seed), 300)
    pairs = sorted(zip((-scores).tolist(), rows.tolist(), strict=True))
    expected = {row: rank for rank, (_, row) in enumerate(pairs, start=1)}
    ranks = rank_rows(scores, rows)
    assert ranks.dtype == np.int64
    assert ranks.tolist() == [expected[row] for row in rows.tolist()]


def test_ranks_do_not_depend_on_the_order_given():
    rng = np.random.default_rng(0)
    scores, rows = tied_scores(rng, 200)
    order = rng.permutation(200)
    np.testing.assert_array_equal(rank_rows(scores[order], rows[order]), rank_rows(scores, rows)[order])


def test_equal_scores_rank_in_pool_order():
    assert rank_rows(np.array([0.5, 0.25, 0.5, 0.5]), np.array([7, 0, 3, 12])).tolist() == [2, 4, 1, 3]


def test_order_puts_the_highest_score_first():
    assert order_by_score(np.array([0.1, 0.9, 0.0]), np.array([0, 1, 2])).tolist() == [1, 0, 2]


def test_no_scores_have_no_ranks():
    assert rank_rows(np.empty(0), np.empty(0, np.int64)).shape == (0,)


def test_scores_without_a_place_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        rank_rows(np.array([0.1, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="one length"):
        rank_rows(np.array([0.1, 0.2]), np.array([0]))

"""How two runs agree: against counting by hand, scipy's Spearman, and angles that are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from scalselect.diagnostics.agreement import (
    TOP_PERCENT,
    principal_angles,
    rank_correlation,
    set_overlap,
    top_overlaps,
)

SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


def test_overlap_by_hand():
    found = set_overlap(np.array([1, 2, 3, 4]), np.array([3, 4, 9]), np.arange(10), np.arange(2, 12))
    assert (found.rows_a, found.rows_b, found.shared) == (4, 3, 2)
    assert (found.jaccard, found.share_of_a, found.share_of_b) == (2 / 5, 2 / 4, 2 / 3)
    assert found.at_random == pytest.approx(8 * 0.4 * 0.3)


def test_what_random_choices_share_is_the_mean_over_many():
    rng = np.random.default_rng(0)
    a, b = np.arange(0, 60), np.arange(20, 100)
    shared = [
        np.intersect1d(rng.choice(a, 15, replace=False), rng.choice(b, 30, replace=False)).size for _ in range(4000)
    ]
    assert set_overlap(a[:15], b[:30], a, b).at_random == pytest.approx(np.mean(shared), abs=0.15)


def test_sets_that_are_equal_disjoint_and_empty():
    some, none = np.arange(5), np.empty(0, dtype=np.int64)
    assert set_overlap(some, some, some, some).jaccard == 1
    assert set_overlap(some, some, some, some).at_random == 5
    assert set_overlap(some, some + 5, np.arange(10), np.arange(10)).jaccard == 0
    assert set_overlap(some, none, some, some) is None


@given(SCORES)
def test_rank_correlation_is_spearmans(pairs):
    a, b = np.array(pairs, dtype=np.float64).T
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlation_sees_order_alone():
    x = np.random.default_rng(1).exponential(size=100)
    assert rank_correlation(x, np.log(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)


@given(SCORES)
def test_the_top_is_shared_as_sorting_by_hand_says(pairs):
    a, b = np.array(pairs, dtype=np.float64).T
    best = [sorted(range(len(pairs)), key=lambda row, s=s: (-s[row], row)) for s in (a, b)]
    found = top_overlaps(a, b)
    assert [item.percent for item in found] == list(TOP_PERCENT)
    for item in found:
        assert item.rows == max(1, math.floor(len(pairs) * item.percent / 100 + 1e-9))
        assert item.shared == len(set(best[0][: item.rows]) & set(best[1][: item.rows]))
        assert item.share == item.shared / item.rows
    assert top_overlaps(a[:0], b[:0]) == ()


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 30.0, 90.0])
def test_a_turned_plane(degrees):
    turn = math.radians(degrees)
    a = np.eye(5)[:, :2]
    b = np.stack([np.eye(5)[0], math.cos(turn) * np.eye(5)[1] + math.sin(turn) * np.eye(5)[2]], axis=1)
    np.testing.assert_allclose(principal_angles(a, b), [0, degrees], atol=1e-9)


def test_angles_do_not_depend_on_the_basis_and_are_as_many_as_the_smaller_rank():
    rng = np.random.default_rng(2)
    a, b = (np.linalg.qr(rng.normal(size=(20, k)))[0] for k in (3, 5))
    turned = b @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    angles = principal_angles(a, b)
    assert angles.shape == (3,)
    assert (np.diff(angles) >= 0).all()
    np.testing.assert_allclose(angles, principal_angles(turned, a), atol=1e-9)
    np.testing.assert_allclose(np.cos(np.radians(angles)), np.linalg.svd(a.T @ b, compute_uv=False), atol=1e-12)

"""Nearest rows by blocks are those of a k-d tree and of plain loops, whatever the blocks."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from scalselect.diagnostics import nearest
from scalselect.diagnostics.nearest import nearest_rows


@pytest.mark.parametrize(("points", "among", "k"), [(1, 1, 1), (1500, 1300, 3), (300, 2000, 18), (40, 700, 1)])
def test_distances_are_those_of_a_tree(points, among, k):
    rng = np.random.default_rng(points + k)
    P, A = rng.standard_t(3, size=(points, k)), rng.standard_t(3, size=(among, k))
    place, distance = nearest_rows(P, [A])
    expected, found = cKDTree(A).query(P)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)
    assert (place == found).all()


def test_a_row_of_the_set_is_not_its_own_neighbour():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(1200, 4))
    itself = np.sort(rng.choice(1200, 200, replace=False))
    place, distance = nearest_rows(A[itself], [A], itself)
    expected, found = cKDTree(A).query(A[itself], k=2)
    np.testing.assert_allclose(distance, expected[:, 1], rtol=1e-12)
    assert (place == found[:, 1]).all()
    assert not nearest_rows(A[itself], [A])[1].any()


def test_equal_rows_are_at_zero_and_far_from_the_origin_too():
    A = np.random.default_rng(2).normal(size=(600, 5)) + 1000.0
    A[599] = A[3]
    place, distance = nearest_rows(A[3:4], [A], np.array([3]))
    assert place.tolist() == [599]
    assert distance.tolist() == [0.0]


def test_the_blocks_decide_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    P, A = rng.normal(size=(100, 3)), rng.normal(size=(90, 3))
    A[45:] = A[:45]  # ties across blocks
    itself = np.arange(90)
    whole = [nearest_rows(P, [A]), nearest_rows(A, [A], itself)]
    monkeypatch.setattr(nearest, "_POINTS_AT_ONCE", 7)
    monkeypatch.setattr(nearest, "_AMONG_AT_ONCE", 11)
    blocks = np.array_split(A, 4)
    pieces = [nearest_rows(P, blocks), nearest_rows(A, iter(blocks), itself)]
    for (_, before), (_, after) in zip(whole, pieces, strict=True):
        assert (before == after).all()


def test_no_neighbour():
    one = np.ones((1, 2))
    for place, distance in (nearest_rows(one, [one], np.array([0])), nearest_rows(one, [])):
        assert place.tolist() == [-1]
        assert distance.tolist() == [np.inf]

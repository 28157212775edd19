import itertools

import numpy as np
import pytest
from plain_svd import low_rank_pool
from scipy.linalg import blas

from scalselect.subspace import blocks, scatter
from scalselect.subspace.scatter import ScatterSums, shift_from


def gathered(X, shift=None, sizes=None):
    sums = ScatterSums(shift_from(X) if shift is None else shift)
    start = 0
    for size in sizes or [len(X)]:
        sums.add(X[start : start + size])
        start += size
    assert start == len(X)
    return sums


def assert_sums_of(sums, X, tolerance=1e-10):
    X = np.asarray(X, dtype=np.float64)
    Xc = X - X.mean(axis=0)
    expected = Xc.T @ Xc
    assert sums.rows == len(X)
    np.testing.assert_allclose(sums.mean, X.mean(axis=0), rtol=1e-12, atol=1e-12 * np.abs(X).max())
    np.testing.assert_allclose(sums.scatter_about(sums.mean), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_are_those_of_the_centred_rows(dtype, order):
    X = np.asarray(low_rank_pool(np.random.default_rng(0), 300, 40) + 7, dtype=dtype, order=order)
    assert_sums_of(gathered(X), X)


def test_scatter_is_symmetric_and_a_copy():
    X = low_rank_pool(np.random.default_rng(1), 100, 17)
    sums = gathered(X)
    matrix = sums.scatter_about(sums.mean)
    np.testing.assert_array_equal(matrix, matrix.T)
    matrix[:] = 0
    assert_sums_of(sums, X)


def test_a_mean_far_from_zero_costs_no_digits():
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(500, 30)) + 300).astype(np.float32)
    assert_sums_of(gathered(X), X, tolerance=1e-13)


def test_a_mean_of_float64_too_far_for_float32_costs_no_digits():
    rng = np.random.default_rng(20)
    spread = rng.integers(-1024, 1025, size=(500, 30)) / 1024  # exact beside such a mean
    mean = 2.0**40 + 60_000
    expected = (spread - spread.mean(axis=0)).T @ (spread - spread.mean(axis=0))
    sums = gathered(spread + mean)
    np.testing.assert_allclose(sums.scatter_about(sums.mean), expected, rtol=0, atol=1e-7 * expected.max())
    assert np.isfinite(shift_from(np.full((2, 3), 1e39))).all()


def test_large_blocks_are_worked_in_pieces(monkeypatch):
    X = low_rank_pool(np.random.default_rng(3), 100, 12)
    pieces = []
    whole = blas.dsyrk

    def watched(alpha, a, **options):
        pieces.append(a.shape[1])
        return whole(alpha, a, **options)

    monkeypatch.setattr(blas, "dsyrk", watched)
    monkeypatch.setattr(scatter, "_PIECE_ROWS", 32)
    assert_sums_of(gathered(X), X)
    assert pieces == [32, 32, 32, 4]


def test_a_block_is_not_changed():
    X = low_rank_pool(np.random.default_rng(4), 50, 8).astype(np.float64)
    before = X.copy()
    gathered(X)
    np.testing.assert_array_equal(X, before)


def test_any_split_of_the_rows_gives_the_same_sums():
    X = low_rank_pool(np.random.default_rng(5), 60, 9) + 20
    for sizes in ([60], [1] * 60, [59, 1], [0, 13, 0, 47]):
        assert_sums_of(gathered(X, sizes=sizes), X)


def test_parts_about_different_shifts_merge_in_any_order():
    rng = np.random.default_rng(6)
    X = low_rank_pool(rng, 240, 15) + np.float32(30)
    parts = [X[:1], X[1:90], X[90:200], X[200:]]
    shifts = [shift_from(part) + rng.normal(size=15) for part in parts]
    for order in itertools.permutations(range(4)):
        merged = ScatterSums(shift_from(X))
        for index in order:
            merged.merge(gathered(parts[index], shifts[index]))
        assert_sums_of(merged, X)


def test_merging_as_a_tree_equals_merging_in_a_row():
    rng = np.random.default_rng(7)
    X = low_rank_pool(rng, 120, 11) + np.float32(5)
    a, b, c, d = (gathered(part, rng.normal(size=11)) for part in np.split(X, 4))
    a.merge(b)
    c.merge(d)
    a.merge(c)
    assert_sums_of(a, X)


def test_merging_leaves_the_other_alone_and_takes_empty_sums():
    X = low_rank_pool(np.random.default_rng(8), 40, 6)
    sums, other = gathered(X[:30]), gathered(X[30:], np.full(6, 2.0))
    sums.merge(other)
    sums.merge(ScatterSums(np.full(6, 9.0)))
    assert_sums_of(sums, X)
    assert_sums_of(other, X[30:])


def test_sums_of_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="6 dimensions cannot be merged into sums of 5"):
        ScatterSums(np.zeros(5)).merge(ScatterSums(np.zeros(6)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_and_nothing_is_added(bad, monkeypatch):
    monkeypatch.setattr(blocks, "_CHECKED_AT_ONCE", 16)
    X = low_rank_pool(np.random.default_rng(9), 40, 6)
    sums = gathered(X)
    broken = X.copy()
    broken[37, 2] = bad
    with pytest.raises(ValueError, match="row 37 of the block is not finite"):
        sums.add(broken)
    assert_sums_of(sums, X)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((3, 5), np.float32), r"must be \[rows, 4\]: \[3, 5\]"),
        (np.zeros(4, np.float32), r"must be \[rows, 4\]: \[4\]"),
        (np.zeros((3, 4), np.float16), "must be float32 or float64: float16"),
        (np.zeros((3, 4), np.int64), "must be float32 or float64: int64"),
    ],
)
def test_blocks_of_another_kind_are_refused(block, message):
    with pytest.raises(ValueError, match=message):
        ScatterSums(np.zeros(4)).add(block)


@pytest.mark.parametrize("shift", [np.zeros((2, 2)), np.array([0.0, np.nan])])
def test_shifts_that_are_no_finite_vector_are_refused(shift):
    with pytest.raises(ValueError, match="one finite vector"):
        ScatterSums(shift)


def test_empty_sums_have_no_mean():
    with pytest.raises(ValueError, match="no representations"):
        _ = ScatterSums(np.zeros(3)).mean


def test_the_shift_is_the_mean_in_the_type_of_the_block():
    X = low_rank_pool(np.random.default_rng(10), 333, 7) + 3
    shift = shift_from(X)
    assert shift.dtype == np.float64
    np.testing.assert_array_equal(shift, shift.astype(np.float32))
    np.testing.assert_allclose(shift, X.astype(np.float64).mean(axis=0), rtol=6e-8)
    np.testing.assert_array_equal(shift_from(X.astype(np.float64)), X.mean(axis=0, dtype=np.float64))
    with pytest.raises(ValueError, match="0 rows"):
        shift_from(X[:0])


def test_equal_rows_differ_from_their_shift_by_exactly_zero():
    X = np.full((1000, 64), 0.1, np.float32)
    sums = gathered(X)
    assert not sums.scatter_about(sums.mean).any()


@pytest.mark.parametrize("far", [0.0, 3.0, 300.0])
def test_scatter_about_any_point(far):
    rng = np.random.default_rng(12)
    X = low_rank_pool(rng, 200, 13) + np.float32(far)
    point = rng.normal(size=13)
    from_point = X.astype(np.float64) - point
    expected = from_point.T @ from_point
    found = gathered(X, sizes=[50, 150]).scatter_about(point)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())

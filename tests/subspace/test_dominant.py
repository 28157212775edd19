import math

import numpy as np
import pytest
from plain_svd import low_rank_pool, pool_of_spectrum, svd_scores
from scipy import linalg
from scipy.sparse.linalg import ArpackNoConvergence

from scalselect.errors import WorkError
from scalselect.subspace import dominant
from scalselect.subspace.dominant import dominant_subspace, subspace_warnings
from scalselect.subspace.scatter import ScatterSums, shift_from


def subspace_of(X, energy=0.9, shift=None):
    sums = ScatterSums(shift_from(X) if shift is None else shift)
    sums.add(X)
    return dominant_subspace(sums, energy=energy)


# 64 dimensions take the whole spectrum at once, 400 a part of it, and 400 with k above 64 a part, then all.
@pytest.mark.parametrize("hidden", [64, 400, 1024])
@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_rank_values_basis_and_gap_are_those_of_the_svd(hidden, energy):
    rng = np.random.default_rng(hidden)
    X = (rng.normal(size=(1100, hidden)) * np.arange(1, hidden + 1) ** -0.7 + 4).astype(np.float32)
    found = subspace_of(X, energy)
    _, k, s = svd_scores(X, energy)
    assert found.rank == k
    assert found.rows == 1100
    assert found.basis.shape == (hidden, k)
    np.testing.assert_allclose(found.singular_values, s[:k], rtol=1e-11)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(found.mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert found.gap == pytest.approx(s[k - 1] / s[k], rel=1e-11)
    assert found.energy == pytest.approx(np.sum(s[:k] ** 2) / np.sum(s**2), rel=1e-12)
    spread = X.astype(np.float64).var(axis=0)
    assert found.largest_dimension_energy == pytest.approx(spread.max() / spread.sum(), rel=1e-12)
    assert found.mean.dtype == found.basis.dtype == found.singular_values.dtype == np.float64


@pytest.fixture
def asked(monkeypatch):
    """Return the parts of the spectrum that were computed, as they are asked for."""
    parts = []
    whole = linalg.eigh

    def watched(matrix, **options):
        parts.append(options["subset_by_index"])
        return whole(matrix, **options)

    monkeypatch.setattr(linalg, "eigh", watched)
    return parts


def test_only_a_part_of_the_spectrum_is_computed_where_that_is_enough(asked):
    rng = np.random.default_rng(0)
    low_rank = pool_of_spectrum(rng, 700, 600, np.array([5.0, 4.0, 3.0, 1.0]))
    assert subspace_of(low_rank).rank == 3
    assert asked == [(536, 599)]
    asked.clear()
    assert subspace_of(rng.normal(size=(700, 600))).rank > 100
    assert asked == [(536, 599), None]


def test_parts_of_the_spectrum_that_cannot_be_enough_are_not_computed(asked, monkeypatch):
    monkeypatch.setattr(dominant, "_FIRST_PART", 4)
    monkeypatch.setattr(dominant, "_PRODUCTS_BELOW", 10**6)  # so that all parts come the same way
    rng = np.random.default_rng(1)
    decaying = pool_of_spectrum(rng, 300, 200, 0.8 ** np.arange(40))
    assert subspace_of(decaying, 0.95).rank == 7
    assert asked == [(196, 199), (184, 199)]
    asked.clear()
    assert subspace_of(rng.normal(size=(300, 200))).rank > 100
    assert asked == [(196, 199), None]  # 16 of 200 nearly equal eigenvalues never hold 0.9


def random_scatter(eigenvalues, seed=3):
    """Return a matrix of given eigenvalues, descending [hidden], and its eigenvectors [hidden, hidden]."""
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    return np.asfortranarray((V * eigenvalues) @ V.T), V


SPECTRA = {
    "decaying": 1.0 / np.arange(1, 321),
    "fast": 0.7 ** np.arange(320),
    "few": np.concatenate([np.linspace(3, 1, 9), np.zeros(311)]),
    "flat": np.concatenate([[5.0], np.linspace(1.1, 1, 319)]),
    "repeated": np.repeat(0.8 ** np.arange(64), 5),
    "all equal": np.ones(320),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_eigenpairs_by_products_are_those_of_the_whole_matrix(spectrum):
    eigenvalues, top = SPECTRA[spectrum], 20
    S, V = random_scatter(eigenvalues)
    values, vectors = dominant._eigenpairs(S, top)
    np.testing.assert_allclose(values, eigenvalues[:top], rtol=0, atol=1e-13 * eigenvalues[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(top), atol=1e-12)
    np.testing.assert_allclose(S @ vectors, vectors * values, atol=1e-12 * eigenvalues[0])
    if spectrum in ("decaying", "fast"):  # where every one of them is determined
        np.testing.assert_allclose(np.abs(np.einsum("dk,dk->k", vectors, V[:, :top])), 1, atol=1e-10)


def test_eigenpairs_by_products_need_no_whole_matrix(asked):
    S, _ = random_scatter(SPECTRA["decaying"])
    dominant._eigenpairs(S, 20)
    assert asked == []
    dominant._eigenpairs(S, 21)
    assert asked == [(299, 319)]


@pytest.mark.parametrize("missed", [0, 7])
def test_an_eigenvalue_that_was_missed_is_noticed(asked, monkeypatch, missed):
    eigenvalues = SPECTRA["decaying"]
    S, _ = random_scatter(eigenvalues)
    whole = dominant.eigsh

    def missing(operator, k, **options):
        if k == 1:
            return whole(operator, k, **options)
        values, vectors = whole(operator, k + 1, **options)
        keep = np.delete(np.arange(k + 1), k - missed)
        return values[keep], vectors[:, keep]

    monkeypatch.setattr(dominant, "eigsh", missing)
    values, _ = dominant._eigenpairs(S, 20)
    assert asked == [(300, 319)]
    np.testing.assert_allclose(values, eigenvalues[:20], rtol=1e-12)


def test_an_iteration_that_does_not_converge_is_no_failure(asked, monkeypatch):
    def failing(*_arguments, **_options):
        raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(dominant, "eigsh", failing)
    S, _ = random_scatter(SPECTRA["fast"])
    np.testing.assert_allclose(dominant._eigenpairs(S, 20)[0], SPECTRA["fast"][:20], rtol=1e-10)
    assert asked == [(300, 319)]


def test_eigenvalues_that_are_zero_or_negative_by_rounding_are_never_used():
    X = np.random.default_rng(2).normal(size=(30, 3)) @ np.ones((3, 40))
    values, _ = dominant._eigenpairs(X.T @ X, 40)
    assert (values >= 0).all()
    # A trace that rounding has left above the sum of the eigenvalues is never reached.
    assert dominant._rank(np.array([4.0, 1.0, 1e-16, 0.0]), 5.0 + 1e-10, 1 - 1e-15, hidden=4) == 2


@pytest.mark.parametrize("k", [63, 64, 65, 66])
def test_the_gap_is_known_where_the_part_of_the_spectrum_ends(k):
    rng = np.random.default_rng(k)
    s = np.concatenate([np.linspace(3.0, 2.0, k), np.full(40, 0.1)])
    energy = (np.sum(s[: k - 1] ** 2) + 0.5 * s[k - 1] ** 2) / np.sum(s**2)
    found = subspace_of(pool_of_spectrum(rng, 600, 2000, s), energy)
    assert found.rank == k
    assert found.gap == pytest.approx(20.0, rel=1e-9)


@pytest.mark.parametrize("hidden", [30, 500])
def test_energy_within_a_millionth_of_the_threshold(hidden):
    s = np.sqrt(np.array([6.0, 2.0, 1.0, 0.6, 0.4]))  # shares 0.6, 0.8, 0.9, 0.96, 1
    X = pool_of_spectrum(np.random.default_rng(1), 200, hidden, s)
    assert subspace_of(X, 0.9 - 1e-6).rank == 3
    assert subspace_of(X, 0.9 + 1e-6).rank == 4
    assert subspace_of(X, 0.9 + 1e-6).energy == pytest.approx(0.96)


def test_energy_equal_to_the_threshold_is_reached_whatever_the_rounding():
    s = np.sqrt(np.array([6.0, 2.0, 1.0, 0.6, 0.4]))
    for seed in range(20):
        X = pool_of_spectrum(np.random.default_rng(seed), 50, 12, s)
        assert [subspace_of(X, energy).rank for energy in (0.6, 0.8, 0.9, 0.96)] == [1, 2, 3, 4]


@pytest.mark.parametrize("hidden", [20, 600])
def test_rank_deficiency_and_energy_near_one_take_no_zero_singular_value(hidden):
    rng = np.random.default_rng(2)
    X = (rng.integers(-3, 4, size=(80, 3)) @ rng.integers(-3, 4, size=(3, hidden))).astype(np.float32)
    for energy in (0.9999, 1 - 1e-15):
        found = subspace_of(X, energy)
        assert found.rank == 3
        assert found.gap == math.inf
        assert found.energy <= 1.0


@pytest.mark.parametrize(("rows", "hidden"), [(2, 64), (5, 64), (12, 700)])
def test_fewer_rows_than_dimensions(rows, hidden):
    X = np.random.default_rng(3).normal(size=(rows, hidden)).astype(np.float32)
    found = subspace_of(X, 1 - 1e-9)
    assert found.rank == rows - 1
    assert found.gap == math.inf


def test_k_may_be_all_dimensions():
    found = subspace_of(np.random.default_rng(4).normal(size=(100, 5)), 0.999)
    assert found.rank == 5
    assert found.gap == math.inf


@pytest.mark.parametrize("energy", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_energies_outside_the_open_interval_are_refused(energy):
    with pytest.raises(ValueError, match="energy must lie between 0 and 1"):
        subspace_of(np.eye(4), energy)


def test_one_row_and_no_row_are_refused():
    with pytest.raises(WorkError, match="at least two representations: 1 "):
        subspace_of(np.ones((1, 8), np.float32))
    with pytest.raises(WorkError, match="at least two representations: 0 "):
        dominant_subspace(ScatterSums(np.zeros(8)), energy=0.9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [None, np.zeros(64), np.full(64, 0.09), np.full(64, -1e3)])
@pytest.mark.parametrize("values", [np.full(64, 0.1), np.linspace(-300.0, 301.7, 64), np.zeros(64)])
def test_equal_rows_are_refused_about_any_shift(dtype, shift, values):
    X = np.tile(values.astype(dtype), (1000, 1))
    with pytest.raises(WorkError, match="all 1000 representations are equal"):
        subspace_of(X, shift=shift)


def test_equal_rows_are_refused_after_merging_from_far_shifts():
    X = np.tile(np.linspace(-1.0, 2.0, 64).astype(np.float32) / 3, (500, 1))
    sums = ScatterSums(shift_from(X))
    for far in (0.0, 10.0, 1e3):
        part = ScatterSums(np.full(64, far))
        part.add(X)
        sums.merge(part)
    with pytest.raises(WorkError, match="all 1500 representations are equal"):
        dominant_subspace(sums, energy=0.9)


@pytest.mark.parametrize("rows", [2, 1000])
def test_rows_that_differ_in_the_last_digit_of_one_value_are_not_equal(rows):
    X = np.full((rows, 64), 0.1, np.float32)
    X[1, 5] = np.nextafter(X[1, 5], np.float32(1))
    found = subspace_of(X)
    assert found.rank == 1
    assert abs(found.basis[5, 0]) == pytest.approx(1.0)


def test_equal_singular_values_warn_with_the_gap():
    rng = np.random.default_rng(5)
    close = subspace_of(pool_of_spectrum(rng, 100, 20, np.array([9.0, 1.0002, 1.0, 0.9, 0.8])), 0.96)
    assert close.rank == 2
    (warning,) = subspace_warnings(close)
    assert "not unique: singular values 2 and 3 nearly coincide (s_2 / s_3 - 1: 0.0002)" in warning
    assert subspace_warnings(subspace_of(pool_of_spectrum(rng, 100, 20, np.array([9.0, 1.002, 1.0])), 0.98)) == []


def test_a_dimension_that_owns_most_of_the_energy_warns():
    X = low_rank_pool(np.random.default_rng(6), 200, 32)
    assert subspace_warnings(subspace_of(X)) == []
    X[:, 7] *= 30
    dominated = subspace_of(X)
    assert dominated.largest_dimension_energy > 0.9
    (warning,) = subspace_warnings(dominated)
    assert f"one dimension of the 32 holds {100 * dominated.largest_dimension_energy:.0f} % of the energy" in warning


def test_vectors_whose_squares_overflow_are_refused_in_words():
    X = np.random.default_rng(7).normal(size=(50, 8))
    with pytest.raises(WorkError, match="so large that the sums of their squares overflow"):
        subspace_of(X * 1e200)
    assert subspace_of(X * 1e140).rank == subspace_of(X * 1e-140).rank == subspace_of(X).rank

"""Reconstruction error: against plain projections, and on spans that are known."""

import math

import numpy as np
import pytest

from scalselect.diagnostics.reconstruction import error_of_basis, reconstruction_errors


def plain_error(P, C, j=None):
    """Project with a full SVD and take norms of what is left over."""
    _, s, Wt = np.linalg.svd(C, full_matrices=False)
    W = Wt[: np.count_nonzero(s > 1e-9 * s[0])][:j].T
    return np.sum((P - P @ W @ W.T) ** 2) / np.sum(P**2)


@pytest.mark.parametrize(("rows", "hidden"), [(10, 40), (40, 40), (90, 40), (1, 6)])
def test_errors_are_those_of_plain_projections(rows, hidden):
    rng = np.random.default_rng(rows)
    P, C = rng.normal(size=(55, hidden)), rng.normal(size=(rows, hidden)) * 0.8 ** np.arange(hidden)
    found = reconstruction_errors(P, C, 3)
    assert found["leading"] == pytest.approx(plain_error(P, C, 3), rel=1e-9)
    assert found["span"] == pytest.approx(plain_error(P, C), abs=1e-9)


@pytest.mark.parametrize("copies", [1, 30])
def test_dependent_rows_span_no_more(copies):
    rng = np.random.default_rng(4)
    P, C = rng.normal(size=(20, 12)), rng.normal(size=(3, 12))
    many = np.concatenate([C, 2 * C, C[:1] - C[1:2]] * copies)  # fewer rows than dimensions, and more
    assert reconstruction_errors(P, many, 2)["span"] == pytest.approx(plain_error(P, C), rel=1e-9)


def test_rows_in_the_span_are_reconstructed():
    rng = np.random.default_rng(5)
    C = rng.normal(size=(4, 30))
    found = reconstruction_errors(rng.normal(size=(50, 4)) @ C, C, 4)
    assert found == {"leading": pytest.approx(0, abs=1e-12), "span": pytest.approx(0, abs=1e-12)}
    across = np.zeros((2, 4))
    across[0, 0], across[1, 1] = 1, 2
    assert reconstruction_errors(across[:1], across[1:], 1) == {"leading": 1.0, "span": 1.0}


def test_nothing_beats_the_pools_own_directions():
    rng = np.random.default_rng(6)
    P = rng.normal(size=(80, 10)) * np.arange(1, 11)
    basis = np.linalg.svd(P, full_matrices=False)[2][:3].T
    best = error_of_basis(P, basis)
    s = np.linalg.svd(P, compute_uv=False)
    assert best == pytest.approx(np.sum(s[3:] ** 2) / np.sum(s**2), rel=1e-12)
    assert reconstruction_errors(P, P, 3)["leading"] == pytest.approx(best, rel=1e-9)
    for start in range(0, 80, 20):
        assert reconstruction_errors(P, P[start : start + 20], 3)["leading"] >= best


def test_rows_without_energy():
    zeros, ones = np.zeros((3, 4)), np.ones((3, 4))
    assert all(math.isnan(value) for value in reconstruction_errors(zeros, ones, 2).values())
    assert math.isnan(error_of_basis(zeros, np.eye(4)[:, :2]))
    assert reconstruction_errors(ones, zeros, 2) == {"leading": 1.0, "span": 1.0}
    assert reconstruction_errors(ones, np.empty((0, 4)), 2) == {"leading": 1.0, "span": 1.0}

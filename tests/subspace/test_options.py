"""The ablations' options against plain numpy: no centring, standardised columns, normalised rows, a fixed rank."""

import itertools
import math

import numpy as np
import pytest
from plain_svd import low_rank_pool, pool_of_spectrum

from scalselect.errors import WorkError
from scalselect.subspace.blocks import centred, normalised
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import coordinates_of, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from


def plain_transformed(X, *, centring, standardise, normalise):
    X = np.asarray(X, dtype=np.float64)
    if normalise:
        norms = np.sqrt((X**2).sum(axis=1))
        X = X / np.where(norms == 0, 1, norms)[:, None]
    deviations = X.std(axis=0)
    X = X - X.mean(axis=0) if centring else X
    return X / np.where(deviations > 1e-12 * np.abs(X).max(), deviations, 1) if standardise else X


def plain_scores(X, energy=None, rank=None):
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    k = rank or int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= energy)) + 1
    return (U[:, :k] ** 2).sum(axis=1), k, s


def found(X, *, energy=0.9, rank=None, centring=True, standardise=False, normalise=False, blocks=3):
    X = normalised(X) if normalise else X
    sums = ScatterSums(shift_from(X[: len(X) // blocks]))
    for part in np.array_split(X, blocks):
        sums.add(part)
    return dominant_subspace(
        sums, energy=energy, rank=rank, centring=centring, standardise=standardise, normalised_rows=normalise
    )


def pools():
    rng = np.random.default_rng(3)
    plain = low_rank_pool(rng, 300, 40)
    constant = plain.copy()
    constant[:, [0, 7]] = np.float32([0.1, -250.3])
    uneven = plain * np.float32(10.0) ** rng.uniform(-3, 3, size=40).astype(np.float32)
    return {"plain": plain, "far": plain + np.float32(30), "constant": constant, "uneven": uneven}


@pytest.mark.parametrize("pool", pools())
@pytest.mark.parametrize(("centring", "standardise", "normalise"), itertools.product([True, False], repeat=3))
def test_scores_are_those_of_the_svd_of_the_transformed_rows(pool, centring, standardise, normalise):
    X = pools()[pool]
    transformed = plain_transformed(X, centring=centring, standardise=standardise, normalise=normalise)
    for options in ({"energy": 0.9}, {"rank": 3}):
        expected, k, s = plain_scores(transformed, **options)
        subspace = found(X, centring=centring, standardise=standardise, normalise=normalise, **options)
        assert subspace.rank == k
        np.testing.assert_allclose(subspace.singular_values, s[:k], rtol=1e-9)
        np.testing.assert_allclose(centred(X, subspace), transformed, rtol=0, atol=1e-11 * np.abs(transformed).max())
        scores = leverage_scores(X, subspace)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-10 * expected.max())
        assert subspace.gap == pytest.approx(s[k - 1] / s[k], rel=1e-8)
        assert subspace.total_energy == pytest.approx((s**2).sum(), rel=1e-11)


def test_the_default_is_the_method_itself():
    X = pools()["far"]
    subspace = found(X)
    assert subspace.scale is None
    assert not subspace.normalised_rows
    np.testing.assert_allclose(subspace.mean, X.astype(np.float64).mean(axis=0), rtol=1e-14)


def test_coordinates_are_rows_of_u_and_norms_those_of_the_centred_rows():
    X = pools()["uneven"]
    subspace = found(X, standardise=True, rank=4)
    scores, coordinates, norms = coordinates_of(X, subspace)
    transformed = plain_transformed(X, centring=True, standardise=True, normalise=False)
    np.testing.assert_allclose(coordinates.T @ coordinates, np.eye(4), atol=1e-10)
    np.testing.assert_array_equal(scores, leverage_scores(X, subspace))
    np.testing.assert_allclose((coordinates**2).sum(axis=1), scores, rtol=1e-13)
    np.testing.assert_allclose(norms, np.linalg.norm(transformed, axis=1), rtol=1e-11)
    approximated = (coordinates * subspace.singular_values) @ subspace.basis.T
    U, s, Vt = np.linalg.svd(transformed, full_matrices=False)
    np.testing.assert_allclose(approximated, (U[:, :4] * s[:4]) @ Vt[:4], atol=1e-8)


def test_a_rank_beyond_what_the_rows_span_is_refused():
    X = pool_of_spectrum(np.random.default_rng(4), 100, 30, np.array([3.0, 2.0, 1.0]))
    assert found(X, rank=3).gap == math.inf
    with pytest.raises(WorkError, match="rank asks for 4 dimensions and the 100 representations span only 3"):
        found(X, rank=4)
    with pytest.raises(WorkError, match="rank asks for 500 dimensions"):
        found(X, rank=500)
    with pytest.raises(ValueError, match="rank must be at least 1: 0"):
        found(X, rank=0)


@pytest.mark.parametrize("hidden", [40, 900])
def test_a_rank_takes_so_many_dimensions_whatever_energy_they_hold(hidden):
    rng = np.random.default_rng(5)
    s = 0.9 ** np.arange(30) * 5
    X = pool_of_spectrum(rng, 200, hidden, s)
    for rank in (1, 8, 29):
        subspace = found(X, rank=rank)
        assert subspace.rank == rank
        assert subspace.energy == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum(), rel=1e-11)
        assert leverage_scores(X, subspace).sum() == pytest.approx(rank, rel=1e-11)


def test_rows_of_equal_direction_are_equal_once_normalised():
    X = np.outer(np.arange(1, 9), np.array([1.0, -2.0, 0.5]))
    found(X)
    with pytest.raises(WorkError, match="all 8 representations are equal"):
        found(X, normalise=True)
    with pytest.raises(WorkError, match="all 8 representations are equal"):
        found(np.ones((8, 3)), centring=False)


def test_a_row_of_zeros_has_no_direction_and_stays():
    X = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(normalised(X), [[0.6, 0.8], [0.0, 0.0]])
    assert X[0, 0] == 3.0

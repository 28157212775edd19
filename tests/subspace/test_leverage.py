import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_svd import low_rank_pool, pool_of_spectrum, svd_scores

from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from


def scored(X, energy=0.9, shift=None):
    sums = ScatterSums(shift_from(X) if shift is None else shift)
    sums.add(X)
    subspace = dominant_subspace(sums, energy=energy)
    return leverage_scores(X, subspace), subspace.rank


def low_rank(rng):
    return low_rank_pool(rng, 300, 40)


def far_mean(rng):
    return low_rank_pool(rng, 300, 40) + np.float32(300 * 5.0)


def exact_duplicates(rng):
    X = low_rank_pool(rng, 120, 30)
    return X[rng.integers(0, 120, size=500)]


def constant_columns(rng):
    X = low_rank_pool(rng, 200, 30)
    X[:, [0, 3, 29]] = np.float32([0.1, -250.3, 0])
    return X


def fewer_rows(rng):
    return low_rank_pool(rng, 25, 600)


def rank_deficient(rng):
    return (rng.integers(-4, 5, size=(150, 4)) @ rng.integers(-4, 5, size=(4, 450))).astype(np.float32)


def slow_decay(rng):
    return (rng.normal(size=(900, 500)) * np.arange(1, 501) ** -0.4).astype(np.float32)


@pytest.mark.parametrize(
    "pool", [low_rank, far_mean, exact_duplicates, constant_columns, fewer_rows, rank_deficient, slow_decay]
)
@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_the_svd(pool, energy, dtype):
    X = pool(np.random.default_rng(11)).astype(dtype)
    expected, k, _ = svd_scores(X, energy)
    scores, rank = scored(X, energy)
    assert rank == k
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-10 * expected.max())


@pytest.mark.parametrize("side", [-1e-6, 1e-6])
def test_scores_with_the_energy_near_its_threshold(side):
    s = np.sqrt(np.array([6.0, 2.0, 1.0, 0.6, 0.4]))
    X = pool_of_spectrum(np.random.default_rng(12), 200, 30, s)
    expected, k, _ = svd_scores(X, 0.9 + side)
    scores, rank = scored(X, 0.9 + side)
    assert rank == k == (3 if side < 0 else 4)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-10 * expected.max())


@pytest.mark.parametrize("energy", [0.2, 0.5, 0.9])
def test_a_score_does_not_depend_on_the_block_its_row_came_in(energy):
    X = (np.random.default_rng(13).normal(size=(1000, 256)) * np.arange(1, 257) ** -0.7 + 3).astype(np.float32)
    sums = ScatterSums(shift_from(X))
    sums.add(X)
    subspace = dominant_subspace(sums, energy=energy)
    whole = leverage_scores(X, subspace)
    for size in (1, 3, 100, 255, 256, 257, 997):
        blocks = [leverage_scores(X[start : start + size], subspace) for start in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


seeds = st.integers(0, 2**32 - 1)
few_examples = settings(max_examples=25, deadline=None)


def random_pool(seed):
    """Return a pool whose subspace is unique, so that its scores are well determined."""
    rng = np.random.default_rng(seed)
    rows, hidden, rank = int(rng.integers(8, 80)), int(rng.integers(5, 40)), int(rng.integers(1, 5))
    s = 2.0 ** -np.arange(rank + 1) * rng.uniform(1.0, 1.3, size=rank + 1)
    energy = float((np.sum(s[:rank] ** 2) - 0.3 * s[rank - 1] ** 2) / np.sum(s**2))
    return pool_of_spectrum(rng, rows, hidden, s) + 10 * rng.normal(size=hidden), energy, rank, rng


@few_examples
@given(seeds)
def test_scores_lie_in_the_unit_interval_and_sum_to_the_rank(seed):
    X, energy, rank, _ = random_pool(seed)
    scores, found = scored(X, energy)
    assert found == rank
    assert scores.min() >= 0
    assert as_written(scores).max() <= 1
    assert scores.sum() == pytest.approx(rank, rel=1e-11)


@few_examples
@given(seeds)
def test_scores_do_not_change_with_basis_shift_or_scale(seed):
    X, energy, _, rng = random_pool(seed)
    scores, _ = scored(X, energy)
    rotation = np.linalg.qr(rng.normal(size=(X.shape[1], X.shape[1])))[0]
    for other in (X @ rotation, X + 50 * rng.normal(size=X.shape[1]), 1e-9 * X, -1e9 * X):
        np.testing.assert_allclose(scored(other, energy)[0], scores, rtol=0, atol=1e-10)


@few_examples
@given(seeds)
def test_permuted_rows_have_permuted_scores(seed):
    X, energy, _, rng = random_pool(seed)
    order = rng.permutation(len(X))
    np.testing.assert_allclose(scored(X[order], energy)[0], scored(X, energy)[0][order], rtol=0, atol=1e-11)


@few_examples
@given(seeds)
def test_a_doubled_pool_halves_every_score(seed):
    X, energy, _, _ = random_pool(seed)
    single, _ = scored(X, energy)
    np.testing.assert_allclose(scored(np.concatenate([X, X]), energy)[0], np.tile(single / 2, 2), rtol=0, atol=1e-11)


@few_examples
@given(seeds, st.integers(2, 6))
def test_scores_do_not_depend_on_how_the_pool_was_split_and_merged(seed, parts):
    X, energy, _, rng = random_pool(seed)
    merged = ScatterSums(shift_from(X[:3]))
    cuts = np.sort(rng.integers(0, len(X) + 1, size=parts - 1))
    for index in rng.permutation(parts):
        sums = ScatterSums(X.mean(axis=0) + rng.normal(size=X.shape[1]))
        sums.add(np.split(X, cuts)[index])
        merged.merge(sums)
    scores = leverage_scores(X, dominant_subspace(merged, energy=energy))
    np.testing.assert_allclose(scores, scored(X, energy)[0], rtol=0, atol=1e-10)


def test_exact_copies_tie_once_written():
    rng = np.random.default_rng(14)
    originals = low_rank_pool(rng, 500, 33)
    copied = rng.integers(0, 500, size=9001)  # more than one product, the last one not full
    scores = as_written(scored(originals[copied])[0])
    for original in range(500):
        assert len(np.unique(scores[copied == original])) <= 1


def test_rows_that_cannot_be_scored_are_refused():
    X = low_rank_pool(np.random.default_rng(15), 30, 6)
    sums = ScatterSums(shift_from(X))
    sums.add(X)
    subspace = dominant_subspace(sums, energy=0.9)
    X[4, 1] = np.nan
    with pytest.raises(ValueError, match="row 4 of the block is not finite"):
        leverage_scores(X, subspace)
    with pytest.raises(ValueError, match=r"must be \[rows, 6\]"):
        leverage_scores(np.zeros((3, 7), np.float32), subspace)
    assert leverage_scores(X[:0], subspace).shape == (0,)


def formatted(values):
    return np.array([float(f"{value:.11e}") + 0.0 for value in values])


def assert_same_bits(left, right):
    np.testing.assert_array_equal(left.view(np.int64), right.view(np.int64))


def test_written_scores_are_the_formatted_ones_over_all_magnitudes():
    rng = np.random.default_rng(16)
    tiny, largest = np.finfo(np.float64).tiny, np.finfo(np.float64).max
    values = np.concatenate(
        [
            rng.integers(0, 2**63, size=70_000, dtype=np.uint64).view(np.float64),  # every exponent, some NaN
            rng.uniform(size=70_000),
            rng.uniform(size=1000) * tiny,  # subnormal
            10.0 ** np.arange(-323, 309),
            np.nextafter(10.0 ** np.arange(-307, 309), np.inf),
            np.nextafter(10.0 ** np.arange(-307, 309), 0),
            (rng.integers(10**11, 10**12, size=1000) + 0.5) / 1e12,  # near a tie of the twelfth digit
            [0.0, 5e-324, tiny, 1.0, 1 - 2**-53, 1 + 2**-52, 9.99999999999499e-5, 9.999999999995e-5],
        ]
    )
    values = values[np.isfinite(values) & (np.abs(values) < largest / 10)]
    assert len(values) > 140_000
    assert_same_bits(as_written(values), formatted(values))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_score_is_the_formatted_one(value):
    assert_same_bits(as_written(np.array([value])), formatted([value]))


def test_written_zeros_have_no_sign_and_rounding_errors_above_one_vanish():
    written = as_written(np.array([-0.0, 0.0, 1 + 4e-16, 0.1 + 0.2]))
    assert not np.signbit(written).any()
    assert written.tolist() == [0.0, 0.0, 1.0, 0.3]
    assert as_written(np.empty(0)).shape == (0,)


def test_writing_again_changes_nothing():
    once = as_written(np.random.default_rng(17).uniform(size=10_000) * 1e-5)
    assert_same_bits(as_written(once), once)

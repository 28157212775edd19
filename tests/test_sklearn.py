"""The estimator: the plain method's scores, streams, what is refused, and scikit-learn's own checks."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from scalselect.errors import ScalselectWarning
from scalselect.sklearn import LeverageSelector

# The checks of scikit-learn that fail, and why each must.
EXPECTED_FAILURES = {
    "check_fit2d_1feature": (
        "a row of one positive number over its norm is 1: all rows are equal then and span no subspace, which is what "
        "the error says; the check wants it to speak of one feature"
    ),
}
FITTED = ("components_", "singular_values_", "mean_", "n_components_", "energy_", "gap_", "n_samples_seen_")


@parametrize_with_checks(
    [LeverageSelector(), LeverageSelector(rank=1, centring=False, standardise_columns=True, normalise_rows=True)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES if estimator.normalise_rows else {},
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_expected_failure_is_the_one_described():
    one_feature = np.random.default_rng(0).uniform(size=(10, 1))
    with pytest.raises(ValueError, match="all 10 representations are equal"):
        LeverageSelector(normalise_rows=True).fit(one_feature)
    assert LeverageSelector().fit(one_feature).n_components_ == 1


@pytest.fixture(name="X")
def digits():
    return load_digits().data  # [1797, 64], several columns constant


def plain(X, *, energy=0.9, rank=None, centring=True, standardise=False, normalise=False):
    """Return scores, right singular vectors and singular values by numpy.linalg.svd."""
    X = np.asarray(X, dtype=np.float64)
    if normalise:
        norms = np.sqrt((X * X).sum(axis=1))
        X = X / np.where(norms > 0, norms, 1)[:, None]
    deviation = X.std(axis=0)
    if centring:
        X = X - X.mean(axis=0)
    if standardise:
        X = X / np.where(deviation > 0, deviation, 1)
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    k = rank or int(np.argmax(np.cumsum(s**2) >= energy * np.sum(s**2))) + 1
    return (U[:, :k] ** 2).sum(axis=1), Vt[:k], s


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"energy": 0.5},
        {"rank": 3},
        {"centring": False},
        {"standardise_columns": True},
        {"normalise_rows": True},
        {"centring": False, "standardise_columns": True, "normalise_rows": True, "energy": 0.99},
    ],
)
def test_scores_and_subspace_are_those_of_the_svd(X, options):
    selector = LeverageSelector(**options).fit(X)
    names = {"standardise_columns": "standardise", "normalise_rows": "normalise"}
    scores, Vt, s = plain(X, **{names.get(name, name): value for name, value in options.items()})
    k = len(Vt)
    np.testing.assert_allclose(selector.leverage_scores_, scores, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(selector.singular_values_, s[:k], rtol=1e-10)
    np.testing.assert_allclose(np.abs((selector.components_ * Vt).sum(axis=1)), 1, rtol=1e-9)
    assert selector.components_.shape == (selector.n_components_, selector.n_features_in_) == (k, 64)
    assert selector.gap_ == pytest.approx(s[k - 1] / s[k])
    assert selector.energy_ == pytest.approx((s[:k] ** 2).sum() / (s**2).sum())
    assert selector.leverage_scores_.sum() == pytest.approx(k)
    assert selector.n_samples_seen_ == 1797
    if options == {"centring": False}:
        assert not selector.mean_.any()
    np.testing.assert_array_equal(selector.score_samples(X), selector.leverage_scores_)


def test_rows_of_highest_score_are_chosen(X):
    selector = LeverageSelector(n_to_select=100).fit(X)
    expected = np.sort(np.argsort(-selector.leverage_scores_, kind="stable")[:100])
    assert selector.selected_idx_.dtype == np.int64
    np.testing.assert_array_equal(selector.selected_idx_, expected)


@pytest.mark.parametrize(
    ("asked", "n"), [(None, 16), (7, 7), (np.int64(7), 7), (0.29, 29), (np.float64(0.29), 29), (1.0, 100), (1e-9, 1)]
)
def test_number_of_rows(X, asked, n):
    assert len(LeverageSelector(n_to_select=asked).fit(X[:100]).selected_idx_) == n


@pytest.mark.parametrize("asked", [0, -1, 101, 0.0, 1.5, -0.1, float("nan"), True, "16%"])
def test_numbers_of_rows_that_cannot_be_right(X, asked):
    with pytest.raises(ValueError, match=r"n_to_select .*give a whole number of rows from 1 on, or a share"):
        LeverageSelector(n_to_select=asked).fit(X[:100])


def test_equal_scores_are_taken_in_order(X):
    selector = LeverageSelector(n_to_select=25).fit(np.repeat(X[:20], 3, axis=0))
    first = np.argsort(-selector.leverage_scores_[::3], kind="stable")[:9]
    assert selector.selected_idx_.tolist() == sorted([*(3 * first[:8, None] + range(3)).ravel(), 3 * first[8]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_other_number_types(X, dtype):
    scores, _, _ = plain(X.astype(dtype))
    np.testing.assert_allclose(LeverageSelector().fit(X.astype(dtype)).leverage_scores_, scores, rtol=1e-9, atol=1e-12)


def test_a_memory_mapped_matrix_gives_the_same(X, tmp_path):
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    mapped = LeverageSelector().fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
    np.testing.assert_array_equal(
        mapped.leverage_scores_, LeverageSelector().fit(X.astype(np.float32)).leverage_scores_
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 299), max_size=6), st.booleans())
def test_a_stream_gives_the_scores_of_the_whole(cuts, normalise_rows):
    X = np.random.default_rng(1).normal(size=(300, 12)) * 2.0 ** -np.arange(12) + 5
    whole = LeverageSelector(normalise_rows=normalise_rows).fit(X)
    streamed = LeverageSelector(normalise_rows=normalise_rows)
    for part in np.split(X, sorted(set(cuts))):
        streamed.partial_fit(part)
    assert streamed.n_samples_seen_ == 300
    np.testing.assert_allclose(streamed.score_samples(X), whole.leverage_scores_, rtol=1e-9)
    np.testing.assert_allclose(streamed.mean_, whole.mean_, rtol=1e-12)
    assert streamed.gap_ == pytest.approx(whole.gap_)


def test_scores_of_a_stream_are_not_there_and_it_is_said_why(X):
    selector = LeverageSelector().partial_fit(X[:900])
    for name in ("leverage_scores_", "selected_idx_"):
        assert not hasattr(selector, name)
        with pytest.raises(NotFittedError, match=f"{name} is known after `fit` only.*give them to `score_samples`"):
            getattr(selector, name)


def test_more_rows_after_a_fit_take_the_old_scores_away(X):
    selector = LeverageSelector().fit(X[:900])
    before = selector.components_
    selector.partial_fit(X[900:])
    assert not hasattr(selector, "leverage_scores_")
    assert not hasattr(selector, "selected_idx_")
    np.testing.assert_allclose(selector.score_samples(X), LeverageSelector().fit(X).leverage_scores_, rtol=1e-9)
    assert not np.array_equal(selector.components_, before)
    selector.fit(X[:900])
    np.testing.assert_array_equal(selector.components_, before)


def test_nothing_is_there_before_it_is_fitted(X):
    selector = LeverageSelector()
    for name in (*FITTED, "leverage_scores_", "selected_idx_"):
        assert not hasattr(selector, name)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        selector.score_samples(X)
    one_row = selector.partial_fit(X[:1])
    assert not hasattr(one_row, "components_")
    with pytest.raises(NotFittedError, match="needs at least two representations: 1"):
        one_row.score_samples(X)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({}, sparse.csr_matrix, "Sparse data was passed"),
        ({}, lambda X: np.where(X == 16, np.nan, X), "Input X contains NaN"),
        ({}, lambda X: np.where(X == 16, np.inf, X), "Input X contains infinity"),
        ({}, lambda X: X[:1], "minimum of 2 is required"),
        (
            {},
            np.ones_like,
            "all 1797 representations are equal, so no row stands out and there is no dominant subspace$",
        ),
        ({"energy": 1.0}, lambda X: X, "energy must lie between 0 and 1, both excluded: 1.0"),
        ({"rank": 0}, lambda X: X, "rank must be a whole number of at least 1: 0"),
        ({"rank": 63}, lambda X: X, "rank asks for 63 dimensions and the 1797 representations span only 61"),
    ],
)
def test_what_cannot_be_fitted_is_refused(X, options, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LeverageSelector(**options).fit(change(X))


def test_other_features_than_before_are_refused(X):
    for selector in (LeverageSelector().fit(X), LeverageSelector().partial_fit(X)):
        with pytest.raises(ValueError, match="X has 10 features, but LeverageSelector is expecting 64"):
            selector.score_samples(X[:, :10])
        with pytest.raises(ValueError, match="X has 10 features, but LeverageSelector is expecting 64"):
            selector.partial_fit(X[:, :10])


def test_a_subspace_that_is_not_unique_warns():
    X = np.concatenate([np.eye(4), -np.eye(4)])
    with pytest.warns(ScalselectWarning, match="the dominant subspace is not unique: singular values 2 and 3"):
        selector = LeverageSelector(energy=0.5).fit(X)
    assert selector.gap_ == pytest.approx(1)


def test_it_can_be_cloned_and_pickled(X):
    selector = LeverageSelector(n_to_select=0.1, energy=0.8).fit(X)
    assert clone(selector).get_params() == selector.get_params()
    again = pickle.loads(pickle.dumps(selector))
    np.testing.assert_array_equal(again.selected_idx_, selector.selected_idx_)
    np.testing.assert_array_equal(again.score_samples(X), selector.leverage_scores_)


def test_it_is_no_transformer():
    for name in ("transform", "fit_transform", "get_support", "predict"):
        assert not hasattr(LeverageSelector, name)


def test_scikit_learn_is_asked_for_where_it_is_missing_and_not_loaded_by_the_package():
    code = (
        "import sys, scalselect, scalselect.pipeline\n"
        "assert 'sklearn' not in sys.modules\n"
        "sys.modules['sklearn'] = None\n"
        "try:\n    import scalselect.sklearn\nexcept ImportError as error:\n    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("scalselect.sklearn needs scikit-learn 1.6 or later: pip install 'scalselect[sklearn]' (")


@pytest.mark.parametrize("name", ["centring", "standardise_columns", "normalise_rows"])
def test_the_words_of_the_command_line_are_no_truth_values(name):
    X = np.random.default_rng(0).normal(size=(20, 4))
    for value in ("off", "on", 1, None):
        with pytest.raises(ValueError, match=f"{name} must be True or False: {value!r}"):
            LeverageSelector(**{name: value}).fit(X)

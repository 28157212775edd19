"""Coverage: distances to the nearest chosen row, on sets whose coverage is known."""

import math

import numpy as np
import pytest

from scalselect.diagnostics.coverage import coverage_measures, whitening_scale


def test_distances_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    pool, chosen = rng.normal(size=(50, 3)), rng.normal(size=(7, 3))
    plain = [min(math.dist(p, c) for c in chosen) for p in pool]
    found = coverage_measures(pool, [chosen[:3], chosen[3:]])
    assert found["mean_distance"] == pytest.approx(sum(plain) / 50, rel=1e-12)
    assert found["distance_95"] == pytest.approx(np.percentile(plain, 95), rel=1e-12)


def test_one_of_two_clusters_covers_worse_than_both():
    rng = np.random.default_rng(1)
    pool = np.concatenate([rng.normal(size=(200, 2)) - 10, rng.normal(size=(200, 2)) + 10])
    one, both = coverage_measures(pool, [pool[:40]]), coverage_measures(pool, [pool[::10]])
    assert one["mean_distance"] > 10 * both["mean_distance"]
    assert one["distance_95"] > 20 > 5 * both["distance_95"]


def test_more_rows_never_cover_worse():
    rng = np.random.default_rng(2)
    pool = rng.normal(size=(300, 4))
    means = [coverage_measures(pool, [pool[:n]])["mean_distance"] for n in (1, 10, 100, 300)]
    assert means == sorted(means, reverse=True)
    assert means[-1] == 0


def test_nothing_chosen_covers_nothing():
    assert coverage_measures(np.ones((3, 2)), []) == {"mean_distance": math.inf, "distance_95": math.inf}


@pytest.mark.parametrize(("rows", "k"), [(50, 3), (9, 1)])
def test_the_scale_makes_the_mean_squared_norm_one(rows, k):
    X = np.random.default_rng(k).normal(size=(rows, 8)) * 100
    U = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[0][:, :k]
    assert np.mean(np.sum((U * whitening_scale(rows, k)) ** 2, axis=1)) == pytest.approx(1.0, rel=1e-12)

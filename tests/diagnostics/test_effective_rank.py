"""Effective rank: against a plain SVD, and on sets whose rank is known."""

import math

import numpy as np
import pytest

from scalselect.diagnostics import effective_rank as module
from scalselect.diagnostics.effective_rank import effective_rank


def plain_rank(Y):
    t = np.linalg.svd(Y - Y.mean(axis=0), compute_uv=False)
    p = t**2 / np.sum(t**2)
    return math.exp(-sum(x * math.log(x) for x in p if x > 0))


@pytest.mark.parametrize("places", [None, np.array([3]), np.arange(0, 500, 7)])
def test_it_is_that_of_a_plain_svd_in_pieces_of_any_size(places, monkeypatch):
    U = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32) + np.float32(0.5)
    s = np.array([9.0, 4.0, 4.0, 1.0, 0.01])
    Y = (U if places is None else U[places]).astype(np.float64) * s
    found = effective_rank(U, s, places)
    if len(Y) == 1:
        assert math.isnan(found)
        return
    assert found == pytest.approx(plain_rank(Y), rel=1e-10)
    monkeypatch.setattr(module, "_AT_ONCE", 13)
    assert effective_rank(U, s, places) == pytest.approx(found, rel=1e-12)


def test_known_ranks():
    corners = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    assert effective_rank(corners, np.ones(4)) == pytest.approx(4.0)
    assert effective_rank(corners[[0, 1, 4, 5]], np.ones(4)) == pytest.approx(2.0)
    line = np.outer(np.arange(9), [1, 2, 3]).astype(np.float32)
    assert effective_rank(line, np.ones(3)) == pytest.approx(1.0)


def test_a_scale_and_a_shift_change_nothing():
    U = np.random.default_rng(1).normal(size=(60, 3))
    s = np.array([3.0, 2.0, 1.0])
    assert effective_rank(U, 1e6 * s) == pytest.approx(effective_rank(U, s), rel=1e-10)
    assert effective_rank(U + 4, s) == pytest.approx(effective_rank(U, s), rel=1e-10)


def test_equal_rows_have_none():
    s = np.array([3.0, 1.0])
    assert math.isnan(effective_rank(np.full((7, 2), 0.1, dtype=np.float32), s))
    assert math.isnan(effective_rank(np.ones((3, 2), dtype=np.float32), s, np.empty(0, dtype=np.int64)))

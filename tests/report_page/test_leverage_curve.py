"""Curves of leverage: points lie exactly on them, and there are few."""

import numpy as np
import pyarrow as pa
import pytest

from scalselect.report_page.leverage_curve import leverage_curve


def table_of(scores, selected=None):
    selected = [None] * len(scores) if selected is None else selected
    values = pa.array(scores, pa.float64(), mask=np.isnan(np.asarray(scores, dtype=float)))
    return pa.table({"leverage_score": values, "selected": pa.array(selected, pa.bool_())})


def test_points_of_many_rows_lie_on_the_curve():
    scores = np.random.default_rng(0).lognormal(sigma=2, size=100_000)
    curve = leverage_curve(table_of(scores), [12_345, 100_001, 0])
    falling = np.sort(scores)[::-1]
    assert curve.ranks.size <= 402
    assert (np.diff(curve.ranks) > 0).all()
    assert {1, 12_345, 100_000} <= set(curve.ranks.tolist())
    np.testing.assert_array_equal(curve.at_ranks, falling[curve.ranks - 1])
    np.testing.assert_allclose(curve.held, np.cumsum(falling)[curve.ranks - 1] / falling.sum())
    half = curve.rows_holding(0.5)
    assert falling[:half].sum() >= 0.5 * falling.sum() > falling[: half - 1].sum()
    assert curve.held_by(12_345) == pytest.approx(falling[:12_345].sum() / falling.sum())


def test_rows_without_a_score_are_left_out_and_choices_follow_their_rows():
    curve = leverage_curve(table_of([0.1, np.nan, 0.5, 0.4], [True, False, False, True]), [2])
    assert curve.scores.tolist() == [0.5, 0.4, 0.1]
    assert curve.chosen.tolist() == [False, True, True]
    assert curve.ranks.tolist() == [1, 2, 3]
    assert curve.rows_holding(1.0) == 3

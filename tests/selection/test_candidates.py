import numpy as np
import pytest
from pools import random_candidates

from scalselect.selection.candidates import Candidates, draws_of


def test_a_pool_that_grew_keeps_its_draws():
    few, many = draws_of(5, 1_000), draws_of(5, 70_000)
    np.testing.assert_array_equal(few, many[:1_000])
    assert ((many >= 0) & (many < 1)).all()
    assert abs(many.mean() - 0.5) < 0.01
    assert not np.array_equal(few, draws_of(6, 1_000))


def test_some_of_the_candidates():
    candidates = random_candidates(0, 30)
    places = np.array([1, 4, 29])
    some = candidates.take(places)
    assert len(some) == 3
    assert some.rows.tolist() == candidates.rows[places].tolist()
    np.testing.assert_array_equal(some.vision, candidates.vision[places])
    np.testing.assert_array_equal(some.draws, candidates.draws[places])
    assert random_candidates(0, 30, instruction=False).take(places).instruction is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.array([3, 2])}, "ascend"),
        ({"rows": np.array([2, 2])}, "ascend"),
        ({"scores": np.array([0.1, np.nan])}, "NaN or negative"),
        ({"scores": np.array([0.1, -0.1])}, "NaN or negative"),
        ({"draws": np.zeros(3)}, "one length"),
        ({"vision": np.zeros((3, 2), np.float32)}, "vision coordinates"),
        ({"instruction": np.zeros((2, 0), np.float32)}, "instruction coordinates"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    fitting = {"rows": np.array([0, 4]), "scores": np.array([0.1, 0.2]), "draws": np.zeros(2)}
    Candidates(**fitting)
    with pytest.raises(ValueError, match=message):
        Candidates(**{**fitting, **change})

import sys

import numpy as np
import pytest
from pools import random_candidates, row_images

from scalselect.errors import OptionError
from scalselect.selection.admission import Admission
from scalselect.selection.candidates import Candidates, draws_of
from scalselect.selection.coverage import choose_coverage
from scalselect.selection.selecting import select_rows


def clusters(seed, sizes, spread=0.01):
    rng = np.random.default_rng(seed)
    centres = 10 * rng.standard_normal((len(sizes), 3))
    label = np.repeat(np.arange(len(sizes)), sizes)
    vision = centres[label] + spread * rng.standard_normal((len(label), 3))
    return label, vision.astype(np.float32)


def chosen(candidates, n, admission=None):
    return choose_coverage(candidates, n, admission or Admission(len(candidates)))


@pytest.mark.parametrize("seed", range(5))
def test_one_row_is_the_one_nearest_to_the_mean(seed):
    _label, vision = clusters(seed, [50], spread=1.0)
    got = chosen(Candidates(np.arange(50), np.ones(50), draws_of(seed, 50), vision), 1)
    assert got.tolist() == [np.argmin(((vision - vision.mean(axis=0)) ** 2).sum(axis=1))]


def test_every_cell_gives_the_row_nearest_to_its_centre():
    """Separate clusters whose centres start one in each: where k-means ends is then known."""
    label, vision = clusters(3, [400, 30, 70])
    draws = np.linspace(0.1, 0.9, 500)
    draws[[0, 400, 430]] = [0.01, 0.02, 0.03]
    got = chosen(Candidates(np.arange(500), np.ones(500), draws, vision), 3)
    assert label[got].tolist() == [0, 1, 2]
    for place, cluster in zip(got, range(3), strict=True):
        members = np.flatnonzero(label == cluster)
        centre = vision[members].mean(axis=0)
        assert place == members[np.argmin(((vision[members] - centre) ** 2).sum(axis=1))]


def test_both_kinds_of_vectors_count_each_by_its_rank():
    _, texts = clusters(4, [40, 40], spread=1.0)
    vision = random_candidates(1, 80, dimensions=2).vision * 5
    draws = draws_of(1, 80)
    got = chosen(Candidates(np.arange(80), np.ones(80), draws, vision, texts), 6)
    wide = np.tile(texts, (1, 9))  # nine times the squared distances by nine times the columns
    assert got.tolist() == chosen(Candidates(np.arange(80), np.ones(80), draws, vision, wide), 6).tolist()
    assert got.tolist() != chosen(Candidates(np.arange(80), np.ones(80), draws, vision, 3 * texts), 6).tolist()


def test_places_of_empty_cells_go_to_the_rows_farthest_from_their_centre():
    vision = np.zeros((20, 2), dtype=np.float32)  # one point, so one cell
    vision[7], vision[11] = [0.5, 0.0], [0.0, 0.9]
    draws = np.linspace(0, 0.9, 20)
    draws[[7, 11]] = 0.95
    got = chosen(Candidates(np.arange(20), np.ones(20), draws, vision), 3)
    assert {7, 11} <= set(got.tolist())
    assert len(set(got.tolist())) == 3


def test_refused_rows_are_replaced():
    candidates = random_candidates(5, 60)
    images = row_images([[place % 5] for place in range(60)])
    admission = Admission(60, images, 2)
    got = chosen(candidates, 10, admission)
    assert len(set(got.tolist())) == 10
    assert np.bincount(got % 5).tolist() == [2] * 5
    assert admission.refused.any()


def test_the_choice_is_spread_better_than_a_random_one():
    candidates = random_candidates(6, 2_000, dimensions=2, instruction=False)
    got = chosen(candidates, 60)
    uniform = np.argsort(candidates.draws)[:60]

    def mean_distance(places):
        apart = candidates.vision[:, None] - candidates.vision[None, places]
        return np.sqrt((apart**2).sum(axis=2)).min(axis=1).mean()

    assert mean_distance(got) < 0.85 * mean_distance(uniform)
    assert got.tolist() == chosen(candidates, 60).tolist()
    other = Candidates(candidates.rows, candidates.scores, candidates.draws[::-1].copy(), candidates.vision)
    assert set(got.tolist()) != set(chosen(other, 60).tolist())


def test_without_scikit_learn_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(OptionError, match=r"needs scikit-learn: pip install 'scalselect\[sklearn\]'"):
        select_rows(random_candidates(7, 9), 3, strategy="coverage")

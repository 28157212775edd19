"""Seeded choices: the same for the same seed, even, and never more than there is; numbers as JSON has them."""

import json
import math

import numpy as np
import pytest

from scalselect.diagnostics.plain_numbers import plain
from scalselect.diagnostics.seeded_choice import random_choice, rows_to_search, vectors_to_sample

ROWS = np.arange(0, 3000, 3)


def test_the_same_seed_gives_the_same_rows_and_another_gives_others():
    first = random_choice(ROWS, 100, 0, "a")
    assert (first == random_choice(ROWS, 100, 0, "a")).all()
    assert (first != random_choice(ROWS, 100, 1, "a")).any()
    assert (first != random_choice(ROWS, 100, 0, "b")).any()


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5000])
def test_rows_are_different_ascending_and_from_the_set(size):
    drawn = random_choice(ROWS, size, 0, "a")
    assert drawn.size == min(size, 1000)
    assert (np.diff(drawn) > 0).all()
    assert np.isin(drawn, ROWS).all()


def test_every_row_is_as_likely_as_any_other():
    drawn = np.concatenate([random_choice(np.arange(20), 5, seed, "a") for seed in range(4000)])
    counts = np.bincount(drawn, minlength=20)
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000 * 0.75)


def test_samples_shrink_where_work_would_grow():
    assert vectors_to_sample(512, 2**22) == 4096
    assert vectors_to_sample(4096, 2**22) == 1024
    assert vectors_to_sample(2**30, 2**22) == 1
    assert rows_to_search(20_000, 96_000, 18) == 20_000
    assert 250 < rows_to_search(20_000, 96_000, 260) < 20_000
    assert rows_to_search(20_000, 10**8, 260) == 250
    assert rows_to_search(50, 10**8, 260) == 50
    assert rows_to_search(50, 0, 1) == 50


def test_plain_numbers_are_those_of_json():
    content = {
        1: np.int64(7),
        "a": np.array([1.5, np.nan, np.inf]),
        "b": (np.float64(-math.inf), np.bool_(1), None, "x\ud800"),
        "c": {"d": [np.float32(0.5), np.array(3)]},
    }
    assert plain(content) == {
        "1": 7,
        "a": [1.5, None, None],
        "b": [None, True, None, "x?"],
        "c": {"d": [0.5, 3]},
    }
    json.dumps(plain(content), allow_nan=False).encode()

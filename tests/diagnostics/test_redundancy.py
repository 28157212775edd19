"""Redundancy: images, copies and cosines, counted by hand."""

import numpy as np
import pytest

from scalselect.diagnostics.redundancy import copies, cosines, image_measures


def test_images_are_counted_once_a_row():
    row_of, image_of = np.array([0, 0, 1, 2, 2, 3]), np.array([5, 5, 5, 5, 9, 1])
    assert image_measures(row_of, image_of) == {
        "images": 3,
        "rows_an_image": pytest.approx(5 / 3),
        "most_rows_an_image": 3,
    }


def test_no_images():
    none = np.empty(0, dtype=np.int64)
    assert image_measures(none, none) == {"images": 0, "rows_an_image": None, "most_rows_an_image": None}


def test_copies_are_the_rows_beyond_the_first_of_a_kind():
    assert copies(np.array([4, 4, 4, 1, 0, 1])) == 3
    assert copies(np.array([4])) == copies(np.empty(0, dtype=np.int64)) == 0


def test_cosines():
    a = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0], [0, 0], [3, 4]])
    b = np.array([[5.0, 0], [-2, 0], [0, 1], [0, 0], [1, 1], [4, 3]])
    assert cosines(a, b).tolist() == pytest.approx([1, -1, 0, 1, 0, 0.96])
    x = np.random.default_rng(0).normal(size=(500, 7))
    assert (cosines(x, 3 * x) <= 1).all()

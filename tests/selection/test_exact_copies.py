import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.selection.exact_copies import first_copies

KEYS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2**64 - 1])), max_size=25)


def plain_copies(pairs, order):
    first, copy_of = {}, [-1] * len(pairs)
    for row in order:
        if pairs[row] != (0, 0):
            copy_of[row] = first.get(pairs[row], -1)
            first.setdefault(pairs[row], row)
    return copy_of


@given(KEYS, st.randoms())
def test_the_first_of_equal_rows_is_kept(pairs, random):
    keys = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
    order = np.arange(len(pairs))
    assert first_copies(keys).tolist() == plain_copies(pairs, order)
    random.shuffle(order)
    copies = first_copies(keys, order)
    assert copies.tolist() == plain_copies(pairs, order)
    assert copies.dtype == np.int64


def test_rows_that_share_half_a_hash_are_no_copies():
    assert first_copies(np.array([[5, 1], [5, 2], [1, 5], [5, 1]], dtype=np.uint64)).tolist() == [-1, -1, -1, 0]


def test_rows_without_a_hash_are_no_copies():
    assert first_copies(np.array([[0, 0], [0, 0], [0, 7], [0, 7]], dtype=np.uint64)).tolist() == [-1, -1, -1, 2]


def test_a_row_that_comes_first_in_the_order_is_kept_instead():
    keys = np.array([[1, 1], [1, 1], [1, 1]], dtype=np.uint64)
    assert first_copies(keys, np.array([1, 2, 0])).tolist() == [1, -1, 1]


def test_keys_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[rows, 2\]"):
        first_copies(np.zeros((4, 3), np.uint64))
    with pytest.raises(ValueError, match="each of the 4 rows"):
        first_copies(np.zeros((4, 2), np.uint64), np.arange(3))

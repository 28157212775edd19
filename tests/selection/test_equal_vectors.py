import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scalselect.selection import equal_vectors
from scalselect.selection.equal_vectors import group_equal_rows


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), max_size=30), st.booleans())
def test_groups_are_those_of_a_dictionary(pairs, colliding):
    matrix = np.array(pairs, dtype=np.float32).reshape(-1, 2)
    numbers, firsts = {}, []
    for place, pair in enumerate(pairs):
        if pair not in numbers:
            numbers[pair] = len(numbers)
            firsts.append(place)
    keys = equal_vectors._keys
    if colliding and len(pairs):  # all keys equal: rows that differ from the first are then alone
        equal_vectors._keys = lambda rows: np.zeros(len(rows), dtype=np.uint64)
    try:
        group, first = group_equal_rows(matrix)
    finally:
        equal_vectors._keys = keys
    assert len(first) == 0 or (np.diff(first) > 0).all()
    np.testing.assert_array_equal(matrix[first[group]], matrix)
    if not colliding:
        assert first.tolist() == firsts
        assert group.tolist() == [numbers[pair] for pair in pairs]


def test_rows_that_differ_in_one_bit_differ():
    matrix = np.ones((3, 70), dtype=np.float32)
    matrix[1, 69] = np.nextafter(np.float32(1), np.float32(2))
    group, first = group_equal_rows(matrix)
    assert (group.tolist(), first.tolist()) == ([0, 1, 0], [0, 1])

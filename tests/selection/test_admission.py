import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import image_lists, row_images, times_shown

from scalselect.selection.admission import Admission


def plainly_taken(lists, order, n, most, taken=()):
    taken, new, refused = list(taken), [], []
    for place in order:
        if len(new) == n:
            break
        if place in taken:
            continue
        shown = times_shown(lists, taken)
        if any(shown.get(code, 0) >= most for code in lists[place]):
            refused.append(place)
        else:
            taken.append(place)
            new.append(place)
    return new, refused


@given(
    st.integers(0, 3).flatmap(lambda most: image_lists(20, most)),  # at most one image: the fast path
    st.permutations(range(20)),
    st.integers(0, 20),
    st.integers(1, 3),
    st.sets(st.integers(0, 19), max_size=6),
)
def test_rows_are_taken_in_order_while_their_images_allow(lists, order, n, most, included):
    admission = Admission(20, row_images(lists), most)
    admission.include(np.array(sorted(included), dtype=np.int64))
    taken = admission.take_in_order(np.array(order), n)
    expected, refused = plainly_taken(lists, order, n, most, included)
    assert taken.tolist() == expected
    assert np.flatnonzero(admission.taken).tolist() == sorted({*expected, *included})
    assert np.flatnonzero(admission.refused).tolist() == sorted(refused)
    more = admission.take_in_order(np.array(order), 20)
    assert [*expected, *more.tolist()] == plainly_taken(lists, order, 20, most, included)[0]


@given(image_lists(15), st.permutations(range(15)), st.integers(1, 2))
def test_offers_one_by_one_are_the_same(lists, order, most):
    in_order, offered = (Admission(15, row_images(lists), most) for _ in range(2))
    taken = in_order.take_in_order(np.array(order), 9)
    one_by_one = []
    for place in order:
        if len(one_by_one) < 9 and offered.offer(place):
            one_by_one.append(place)
    assert taken.tolist() == one_by_one


def test_without_a_limit_all_are_taken_once():
    admission = Admission(5)
    admission.include(np.array([3]))
    assert admission.take_in_order(np.array([3, 1, 0, 2]), 2).tolist() == [1, 0]
    assert admission.take_in_order(np.array([3, 1, 0, 2, 4]), 5).tolist() == [2, 4]
    assert not admission.refused.any()


def test_parts_share_what_was_taken():
    admission = Admission(6, row_images([[0], [1], [0], [1], [0], []]), 1)
    odd, even = admission.within(np.array([1, 3, 5])), admission.within(np.array([0, 2, 4]))
    assert odd.take_in_order(np.arange(3), 3).tolist() == [0, 2]
    assert even.within(np.array([1, 2])).offer(1)
    assert not even.offer(0)
    assert np.flatnonzero(admission.taken).tolist() == [1, 4, 5]
    assert even.taken.tolist() == [False, False, True]
    assert even.refused.tolist() == [True, False, False]
    assert np.flatnonzero(admission.refused).tolist() == [0, 3]


def test_a_row_that_shows_an_image_twice_counts_once():
    admission = Admission(2, row_images([[7, 7], [7]]), 2)
    assert admission.take_in_order(np.arange(2), 2).tolist() == [0, 1]


def test_halves_of_a_limit_are_refused():
    with pytest.raises(ValueError, match="together"):
        Admission(2, max_per_image=2)
    with pytest.raises(ValueError, match="together"):
        Admission(2, row_images([[0], [1]]))
    with pytest.raises(ValueError, match="at least 1"):
        Admission(2, row_images([[0], [1]]), 0)
    with pytest.raises(ValueError, match="offsets"):
        Admission(3, row_images([[0], [1]]), 1)

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scalselect.errors import OptionError
from scalselect.selection.quotas import allot, weights_of

WEIGHTS = st.lists(st.fractions(0, 50, max_denominator=30), min_size=1, max_size=8).filter(any)


@st.composite
def bounded(draw):
    weights = draw(WEIGHTS)
    floors = [draw(st.integers(0, 12)) for _ in weights]
    capacities = [floor + draw(st.integers(0, 30)) for floor in floors]
    most = sum(high if weight else low for weight, low, high in zip(weights, floors, capacities, strict=True))
    return draw(st.integers(sum(floors), most)), weights, capacities, floors


@given(st.integers(0, 500), WEIGHTS)
def test_unbounded_places_follow_largest_remainders(n, weights):
    shares = [n * weight / sum(weights) for weight in weights]
    expected = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(shares[at] % 1), at))
    for at in by_remainder[: n - sum(expected)]:
        expected[at] += 1
    assert allot(n, weights) == expected


@given(bounded())
def test_places_lie_within_bounds_and_are_proportional_between_them(case):
    n, weights, capacities, floors = case
    places = allot(n, weights, capacities, floors)
    assert sum(places) == n
    assert all(low <= got <= high for low, got, high in zip(floors, places, capacities, strict=True))
    for left, weight in enumerate(weights):
        for right, other in enumerate(weights):
            # One place could be moved from left to right; then left must not have been far above its share.
            if places[left] > floors[left] and places[right] < capacities[right] and weight and other:
                assert (places[left] - 1) / weight <= Fraction(places[right] + 1) / other


@given(bounded(), st.fractions(Fraction(1, 100), 100))
def test_only_the_proportions_of_weights_count(case, factor):
    n, weights, capacities, floors = case
    assert allot(n, [factor * weight for weight in weights], capacities, floors) == allot(n, *case[1:])


@given(bounded(), st.randoms())
def test_the_order_of_strata_decides_between_equal_remainders_alone(case, random):
    n, weights, capacities, floors = case
    assume(len(set(weights)) == len(weights))
    order = list(range(len(weights)))
    random.shuffle(order)
    places = allot(n, weights, capacities, floors)
    shuffled = allot(n, *([values[at] for at in order] for values in (weights, capacities, floors)))
    assert all(abs(places[at] - got) <= 1 for at, got in zip(order, shuffled, strict=True))


def test_what_a_stratum_cannot_give_goes_to_the_others_in_proportion():
    weights = [Fraction(5), Fraction(3), Fraction(2)]
    assert allot(100, weights) == [50, 30, 20]
    assert allot(100, weights, [10, 100, 100]) == [10, 54, 36]
    assert allot(100, weights, [100, 100, 100], [0, 65, 0]) == [25, 65, 10]


def test_impossible_divisions_are_refused():
    for capacities, floors in (([3, 3], [0, 0]), ([9, 9], [6, 5]), ([1, 9], [2, 0])):
        with pytest.raises(ValueError, match="cannot be divided"):
            allot(10, [Fraction(1), Fraction(1)], capacities, floors)
    with pytest.raises(ValueError, match="cannot be divided"):
        allot(10, [Fraction(1), Fraction(0)], [3, 30])


def test_weights_by_word_and_by_name():
    names, candidates = ["a", "b", "c"], [7, 0, 3]
    assert weights_of("proportional", names, candidates) == [7, 0, 3]
    assert weights_of("equal", names, candidates) == [1, 1, 1]
    assert weights_of({"c": 0.29, "a": 2}, names, candidates) == [2, 0, Fraction(29, 100)]


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"colour": 1, "colors": 2}, r"'colors' \(did you mean `colour`\?\)"),
        ({"colour": -1}, "not negative: -1"),
        ({"colour": float("nan")}, "not negative: nan"),
        ({"colour": float("inf")}, "not negative: inf"),
        ({"colour": True}, "not negative: True"),
        ({"colour": 0}, "all zero"),
        ({}, "all zero"),
        ("fair", "'fair'"),
    ],
)
def test_quotas_that_say_nothing_usable_are_refused(quotas, message):
    with pytest.raises(OptionError, match=message):
        weights_of(quotas, ["colour", "shape"], [3, 4])

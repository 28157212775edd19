"""Text-only rows on top of a budget: none, all, or the budget's share, by properties."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.records import Budget
from scalselect.selection.text_only import TextOnlyRows, choose_text_only

POOL = 400


def of_rows(rows, included=()):
    rows = np.array(sorted(rows), dtype=np.int64)
    return TextOnlyRows(rows, np.isin(rows, list(included)))


def chosen(given_rows, asked="sample", budget=None, eligible=100, seed=0, pool_rows=POOL):
    budget = budget or Budget(percent=Decimal(16))
    return choose_text_only(
        given_rows, asked, budget=budget, eligible=eligible, seed=seed, pool_rows=pool_rows
    ).tolist()


ROWS = st.sets(st.integers(0, POOL - 1), max_size=60)
BUDGETS = st.one_of(
    st.integers(1, 100).map(lambda count: Budget(count=count)),
    st.decimals("0.01", 100, places=2).map(lambda percent: Budget(percent=percent)),
)


@given(ROWS, BUDGETS, st.integers(0, 5), st.data())
def test_the_same_share_rounded_down_with_those_that_must_be_in(rows, budget, seed, data):
    included = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
    share = Fraction(budget.count, 100) if budget.count else Fraction(budget.percent) / 100
    found = chosen(of_rows(rows, included), budget=budget, seed=seed)
    assert found == sorted(set(found))
    assert included <= set(found) <= rows
    assert len(found) == max(len(included), int(len(rows) * share))


@given(ROWS, BUDGETS, BUDGETS)
def test_a_larger_budget_takes_what_a_smaller_one_does(rows, one, other):
    smaller, larger = sorted([chosen(of_rows(rows), budget=one), chosen(of_rows(rows), budget=other)], key=len)
    assert set(smaller) <= set(larger)


@given(ROWS, st.integers(0, 200))
def test_rows_that_are_added_leave_the_lots_of_the_others(rows, more):
    whole = chosen(of_rows(rows), budget=Budget(count=100))
    assert whole == sorted(rows)
    assert chosen(of_rows(rows)) == chosen(of_rows(rows), pool_rows=POOL + more)


def test_keep_is_all_and_exclude_those_that_must_be_in():
    given_rows = of_rows(range(0, 50, 5), {10, 45})
    assert chosen(given_rows, "keep") == list(range(0, 50, 5))
    assert chosen(given_rows, "exclude") == [10, 45]
    assert chosen(of_rows([]), "sample") == []


@pytest.mark.parametrize(("budget", "eligible", "expected"), [("29%", 7, 29), (2, 7, 28), (7, 7, 100)])
def test_the_number_is_exact(budget, eligible, expected):
    budget = Budget(percent=Decimal(29)) if budget == "29%" else Budget(count=budget)
    assert len(chosen(of_rows(range(100)), budget=budget, eligible=eligible)) == expected


def test_seeds_draw_differently_and_evenly():
    draws = [chosen(of_rows(range(40)), budget=Budget(percent=Decimal(50)), seed=seed) for seed in range(200)]
    assert len(set(map(tuple, draws))) == 200
    times = np.bincount(np.concatenate(draws), minlength=40)
    assert times.min() > 70
    assert times.max() < 130

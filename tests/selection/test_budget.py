from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.errors import BudgetError
from scalselect.records import Budget
from scalselect.selection.budget import rows_to_choose


@pytest.mark.parametrize(
    ("percent", "eligible", "rows"),
    [
        ("29", 100, 29),  # int(0.29 * 100) is 28
        ("57", 100, 57),  # int(0.57 * 100) is 56
        ("16", 624_610, 99_937),
        ("0.1", 1000, 1),
        ("0.1", 1999, 1),
        ("100", 7, 7),
        ("99.999", 7, 6),
        ("33.3333333333333333333333333333333333", 3, None),
        ("33.3333333333333333333333333333333334", 3, 1),  # more digits than a Decimal product keeps
        ("1E+2", 12, 12),
    ],
)
def test_percentages_are_rounded_down_in_decimals(percent, eligible, rows):
    budget = Budget(percent=Decimal(percent))
    if rows is None:
        with pytest.raises(BudgetError, match="less than one row"):
            rows_to_choose(budget, eligible)
    else:
        assert rows_to_choose(budget, eligible) == rows


@given(st.integers(1, 10_000), st.integers(1, 10**7))
def test_percentages_of_two_decimals_agree_with_whole_numbers(hundredths, eligible):
    rows = hundredths * eligible // 10_000
    budget = Budget(percent=Decimal(hundredths).scaleb(-2))
    if rows:
        assert rows_to_choose(budget, eligible) == rows
    else:
        with pytest.raises(BudgetError):
            rows_to_choose(budget, eligible)


def test_counts_up_to_the_eligible_rows():
    assert rows_to_choose(Budget(count=5), 812) == 5
    assert rows_to_choose(Budget(count=812), 812) == 812
    with pytest.raises(BudgetError, match=r"asks for 1000 rows and 812 are eligible"):
        rows_to_choose(Budget(count=1000), 812)


def test_a_percentage_of_less_than_one_row_names_both_numbers():
    with pytest.raises(BudgetError, match=r"0\.5% of 199 eligible rows is less than one row") as raised:
        rows_to_choose(Budget(percent=Decimal("0.5")), 199)
    assert raised.value.possible == 1
    assert rows_to_choose(Budget(percent=Decimal("0.5")), 200) == 1


@pytest.mark.parametrize("budget", [Budget(count=1), Budget(percent=Decimal(16))])
def test_no_eligible_row_is_its_own_message(budget):
    with pytest.raises(BudgetError, match=f"no row is eligible, so a budget of {budget} cannot be met"):
        rows_to_choose(budget, 0)


def test_an_empty_budget_is_refused():
    with pytest.raises(ValueError, match="neither a count nor a percentage"):
        rows_to_choose(Budget(), 10)

"""From a budget to a number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.errors import BudgetError

if TYPE_CHECKING:
    from scalselect.records import Budget


def rows_to_choose(budget: Budget, eligible: int) -> int:
    """Return how many of the eligible rows the budget stands for: its count, or its percentage rounded down.

    Parameters
    ----------
    budget
        A count or a percentage.
    eligible
        Number of rows that could be chosen.

    Raises
    ------
    BudgetError
        If there are fewer eligible rows than the count, or the percentage of them is less than one row.
    ValueError
        If the budget is empty.
    """
    if eligible == 0:
        raise BudgetError(
            f"no row is eligible, so a budget of {budget} cannot be met "
            "(eligible are rows with a score that are not excluded; scores.parquet has the reason of every other)"
        )
    if budget.count is not None:
        if budget.count > eligible:
            raise BudgetError(f"the budget asks for {budget.count} rows and {eligible} are eligible", possible=eligible)
        return budget.count
    if budget.percent is None:
        raise ValueError("the budget has neither a count nor a percentage")
    # Whole numbers, not floats: 29 % of 100 is 29, while int(0.29 * 100) is 28. Unlike a Decimal product, this
    # is exact however many digits the percentage has.
    numerator, denominator = budget.percent.as_integer_ratio()
    rows = eligible * numerator // (100 * denominator)
    if rows == 0:
        raise BudgetError(f"{budget} of {eligible} eligible rows is less than one row", possible=1)
    return rows

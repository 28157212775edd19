"""Options of scoring and choosing: defaults, several budgets, and what cannot be right together."""

from __future__ import annotations

from dataclasses import asdict, fields
from decimal import Decimal

import pytest

from scalselect.config import RunConfig, SelectConfig, score_config, select_config
from scalselect.errors import OptionError
from scalselect.option_values import parse_budgets
from scalselect.records import Budget
from scalselect.selection.strategies import STRATEGIES


def test_defaults_of_a_choice():
    config = select_config({"budget": "16%"})
    assert asdict(config) | {"budget": None} == {
        "budget": None,
        "strategy": "top-leverage",
        "seed": 0,
        "deduplicate": "none",
        "near_bound": 0.99,
        "near_across_questions": False,
        "max_per_image": None,
        "stratify_by": None,
        "quotas": "proportional",
        "text_only": "exclude",
        "include_rows": None,
        "include_ids": None,
        "exclude_rows": None,
        "exclude_ids": None,
    }


def test_the_names_of_the_strategies_are_those_of_the_registry():
    (strategy,) = (item for item in fields(SelectConfig) if item.name == "strategy")
    assert sorted(strategy.metadata["choices"]) == sorted(STRATEGIES)
    assert strategy.default == next(iter(STRATEGIES))


@pytest.mark.parametrize("given", ["5%,16%, 50%", ["5%", "16%", "50%"], ("5%", Budget(percent=Decimal(16)), "50%")])
def test_several_budgets(given):
    assert [str(budget) for budget in parse_budgets(given)] == ["5%", "16%", "50%"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("5%,5.0%", "one or several different budgets"),
        ([], "one or several different budgets"),
        ("5%,", "budget cannot be read: ''"),
        (["16%", 0.5], "budget is a fraction"),
    ],
)
def test_budgets_that_cannot_be_read(given, message):
    with pytest.raises(OptionError, match=message):
        parse_budgets(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "top"}, "strategy must be one of top-leverage, .*: 'top'"),
        ({"strategy": "coverag"}, r"did you mean `coverage`\?"),
        ({"seed": -1}, "seed must be a whole number of at least 0: -1"),
        ({"seed": 1.5}, "seed must be a whole number: 1.5"),
        ({"max_per_image": 0}, "max_per_image must be a whole number of at least 1: 0"),
        ({"near_bound": 1.0}, "near_bound must lie between 0 and 1"),
        ({"near_across_questions": True}, "near_across_questions needs deduplicate `near`"),
        ({"quotas": "equal"}, "quotas need stratify_by"),
        ({"include_rows": 5}, "include_rows must be a file, or a list: 5"),
        ({"include_ids": b"7"}, "include_ids must be a file, or a list: b'7'"),
    ],
)
def test_choices_that_cannot_be_right(options, message):
    with pytest.raises(OptionError, match=message):
        select_config({"budget": 5, **options})


def test_options_of_a_choice_need_a_budget():
    with pytest.raises(OptionError, match="strategy says how rows are chosen, and no budget says how many"):
        RunConfig.from_options({"strategy": "half"})


def test_energy_and_rank_exclude_each_other():
    assert score_config({"rank": 7}).rank == 7
    with pytest.raises(OptionError, match=r"energy and rank exclude each other: 0\.8 and 7"):
        score_config({"rank": 7, "energy": 0.8})
    for value in (0, -3, 2.5, True):
        with pytest.raises(OptionError, match="rank must be a whole number"):
            score_config({"rank": value})
    with pytest.raises(OptionError, match="centring must be one of on, off: 'no'"):
        score_config({"centring": "no"})

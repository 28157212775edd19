"""Totals of shards are those of their reports, in whatever order they come; and errors go between processes whole."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect import errors
from scalselect.account_checks import check_report, check_shards_complete
from scalselect.engines.helpers import picklable
from scalselect.errors import BudgetError, DamagedShardError, SampleError, ScalselectError, WorkError
from scalselect.records import Reason
from scalselect.shard_totals import ShardTotals
from test_account_checks import STATUSES, report_of, reports_of


def totals_for(statuses, size, first=0):
    shards = -(-len(statuses) // size)
    return ShardTotals(
        range(first, first + shards),
        lambda shard: range((shard - first) * size, min((shard - first + 1) * size, len(statuses))),
    )


@given(STATUSES, st.integers(1, 12), st.integers(0, 50), st.data())
def test_the_sums_of_all_reports_in_any_order(statuses, size, first, data):
    reports = [replace(report, shard=report.shard + first) for report in reports_of(statuses, size)]
    reports = [replace(report, seconds={"model": 0.5, "read": 0.25 * report.shard}) for report in reports]
    totals = totals_for(statuses, size, first)
    for number, report in enumerate(data.draw(st.permutations(reports)), 1):
        assert report.shard not in totals
        with pytest.raises(WorkError, match=f"{number - 1} of {len(reports)} shards are accounted for"):
            totals.check_complete()
        totals.add(report)
        totals.add(report)  # told twice, counted once
        assert report.shard in totals
        assert len(totals) == number
    totals.check_complete()
    assert totals.rows == len(statuses)
    assert totals.counts == Counter(statuses)
    assert totals.reasons == Counter({"image_missing": statuses.count("skipped")})
    assert totals.seconds["model"] == 0.5 * len(reports)
    assert totals.seconds["read"] == 0.25 * sum(report.shard for report in reports)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda report: replace(report, start=1, stop=4), "shard 0, rows 1 to 4, "),
        (lambda report: replace(report, stop=2), "shard 0, rows 0 to 2, "),
        (lambda report: replace(report, counts={"scored": 2}), "counts 2 rows"),
        (lambda report: replace(report, counts={"scored": 4}), "counts 4 rows"),
        (lambda report: replace(report, reasons={"too_long": 1}), "has reasons"),
    ],
)
def test_a_report_that_does_not_add_up_is_not_added(change, words):
    wrong = change(report_of(0, 0, ["scored"] * 3))
    totals = totals_for(["scored"] * 3, 3)
    for check in (totals.add, lambda report: check_report(report, range(3))):
        with pytest.raises(WorkError, match=f"does not add up.*{words}"):
            check(wrong)
    assert 0 not in totals
    assert totals.rows == 0


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (set(), "0 of 3 shards are accounted for; first missing: 4"),
        ({4, 6}, "2 of 3 shards are accounted for; first missing: 5"),
        ({4, 5, 6, 7}, "4 of 3 shards"),
    ],
)
def test_shards_that_are_missing_or_too_many(seen, words):
    with pytest.raises(WorkError, match=words):
        check_shards_complete(seen, range(4, 7))
    check_shards_complete({4, 5, 6}, range(4, 7))


ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ScalselectError)]
MADE = {
    BudgetError: lambda: BudgetError("too few", 7),
    DamagedShardError: lambda: DamagedShardError("changed", 12),
    SampleError: lambda: SampleError(Reason.IMAGE_MISSING, "no file"),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_every_error_is_in_another_process_what_it_was(kind, again):
    error = MADE.get(kind, lambda: kind("in words"))()
    error.path = "/there"  # whatever is told beside
    other = again(error)
    assert type(other) is kind
    assert str(other) == str(error)
    assert other.args == error.args
    assert vars(other) == vars(error)
    assert picklable(error) is error  # so workers tell it as it is


def test_errors_with_facts_keep_them():
    assert not [kind for kind in ERRORS if kind not in MADE and vars(kind(""))]
    assert pickle.loads(pickle.dumps(BudgetError("too few"))).possible is None
    again = pickle.loads(pickle.dumps(MADE[SampleError]()))
    assert (again.reason, again.detail) == (Reason.IMAGE_MISSING, "no file")
    assert str(again) == "image_missing: no file"


def test_an_error_of_a_subclass_with_another_constructor():
    again = pickle.loads(pickle.dumps(_OddError(one=1, two=2)))
    assert (str(again), again.one) == ("1 and 2", 1)


class _OddError(WorkError):
    def __init__(self, *, one, two):
        super().__init__(f"{one} and {two}")
        self.one = one

"""Tasks run in order, are tried again where that may help, and one failing task does not stop the others."""

from __future__ import annotations

import pytest

from scalselect.engines.local import run_tasks
from scalselect.engines.outcomes import Outcome


class Work:
    """Fails as often as told, task by task, and remembers every call."""

    def __init__(self, failures=None, error=RuntimeError):
        self.left = dict(failures or {})
        self.error = error
        self.calls = []

    def __call__(self, task):
        self.calls.append(task)
        if self.left.get(task, 0) > 0:
            self.left[task] -= 1
            raise self.error(f"call {len(self.calls)}")
        return f"result of {task}"


def test_outcomes_come_in_the_order_of_the_tasks():
    work = Work()
    outcomes = list(run_tasks([3, 1, 2], work))
    assert outcomes == [Outcome(task, f"result of {task}", None, 1) for task in (3, 1, 2)]
    assert work.calls == [3, 1, 2]


def test_no_tasks_no_outcomes():
    assert list(run_tasks([], Work())) == []


def test_a_failing_task_is_tried_again():
    work = Work({"b": 2})
    outcomes = list(run_tasks("abc", work))
    assert [outcome.attempts for outcome in outcomes] == [1, 3, 1]
    assert outcomes[1] == Outcome("b", "result of b", None, 3)
    assert work.calls == ["a", "b", "b", "b", "c"]


def test_attempts_end_and_the_others_go_on():
    work = Work({"a": 9, "c": 9})
    first, second, third = run_tasks("abc", work, attempts=2)
    assert second == Outcome("b", "result of b", None, 1)
    for outcome, task, last in ((first, "a", "call 2"), (third, "c", "call 5")):
        assert (outcome.task, outcome.result, outcome.attempts) == (task, None, 2)
        assert isinstance(outcome.error, RuntimeError)
        assert str(outcome.error) == last  # the error of the last attempt
    assert work.calls == ["a", "a", "b", "c", "c"]


def test_an_error_not_worth_retrying_ends_the_task_at_once():
    work = Work({"a": 9, "b": 1})
    asked = []

    def worth_retrying(error):
        asked.append(str(error))
        return work.calls[-1] != "a"

    first, second = run_tasks("ab", work, worth_retrying=worth_retrying)
    assert first.attempts == 1
    assert str(first.error) == "call 1"
    assert (second.result, second.attempts) == ("result of b", 2)
    assert asked == ["call 1", "call 2"]


def test_a_fatal_error_is_raised_at_once_and_nothing_follows():
    work = Work({"b": 1}, error=FileNotFoundError)
    outcomes = run_tasks("abc", work, fatal=(OSError,))
    assert next(outcomes).task == "a"
    with pytest.raises(FileNotFoundError, match="call 2"):
        next(outcomes)
    assert work.calls == ["a", "b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_wish_to_stop_is_no_failure(error):
    work = Work({"a": 1}, error=error)
    with pytest.raises(error):
        list(run_tasks("ab", work))
    assert work.calls == ["a"]


def test_a_task_starts_when_its_outcome_is_asked_for():
    work = Work()
    outcomes = run_tasks("ab", work)
    assert work.calls == []
    next(outcomes)
    assert work.calls == ["a"]

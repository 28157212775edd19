"""Whatever workers do, every task has one outcome: dead ones are replaced, failures tried again, the slow overtaken."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.engines.crew import Died, Done, Raised, Ready, Retaken
from scalselect.engines.outcomes import Outcome
from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from scalselect.errors import WorkError


class FakeCrew:
    """Workers that do as they are told, in a time of their own.

    `on_start(worker)` and `on_give(worker, task)` return the events that follow. What a crew may rely on is checked.
    """

    def __init__(self, on_start=None, on_give=None):
        self.on_start = on_start or (lambda worker: [Ready(worker, "facts")])
        self.on_give = on_give or (lambda worker, task: [Done(worker, f"result of {task}")])
        self.told = deque()
        self.state = {}  # "starting", "ready", "failed" or the task
        self.given = []
        self.calls = []
        self.now = 0.0

    def start(self, worker):
        assert worker not in self.state
        self.calls.append(("start", worker))
        self.state[worker] = "starting"
        self.told += self.on_start(worker)

    def give(self, worker, task):
        assert self.state[worker] == "ready"
        task = task.task if isinstance(task, Retaken) else task
        self.given.append((worker, task))
        self.state[worker] = task
        self.told += self.on_give(worker, task)

    def end(self, worker):
        self.calls.append(("end", worker))
        del self.state[worker]
        self.told = deque(event for event in self.told if event.worker != worker)

    def events(self, seconds):
        if not self.told:
            assert seconds is not None, "it would wait for ever"
            self.now += seconds
            return self.later()
        event = self.told.popleft()
        if isinstance(event, Died):
            del self.state[event.worker]
        else:
            failed = isinstance(event, Raised) and self.state[event.worker] == "starting"
            self.state[event.worker] = "failed" if failed else "ready"
        return [event]

    def later(self):
        return []

    def close(self):
        self.calls.append(("close",))


def supervised(crew, workers=2, **options):
    options.setdefault("retrying", Retrying())
    return Supervisor(crew, workers, clock=lambda: crew.now, **options)


def failing(times, error=RuntimeError):
    """Return an `on_give` with which tasks fail as often as told, task by task."""
    left = dict(times)

    def on_give(worker, task):
        if left.get(task, 0):
            left[task] -= 1
            return [Raised(worker, error(f"{left[task]} left"))]
        return [Done(worker, f"result of {task}")]

    return on_give


def dying(times):
    left = dict(times)

    def on_give(worker, task):
        if left.get(task, 0):
            left[task] -= 1
            return [Died(worker, "its process died of SIGKILL")]
        return [Done(worker, f"result of {task}")]

    return on_give


def starting(faults):
    """Return an `on_start`: of worker n, what it does at each start, one after another; in the end it begins."""
    left = {worker: deque(events) for worker, events in faults.items()}

    def on_start(worker):
        return [left[worker].popleft() if left.get(worker) else Ready(worker, f"facts of {worker}")]

    return on_start


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers):
    crew = FakeCrew()
    outcomes = list(supervised(crew, workers).results(range(12)))
    assert sorted(outcomes, key=lambda outcome: outcome.task) == [
        Outcome(task, f"result of {task}", None, 1) for task in range(12)
    ]
    assert [task for _, task in crew.given] == list(range(12))
    assert {worker for worker, _ in crew.given} == set(range(workers))


def test_no_tasks_no_outcomes():
    assert list(supervised(FakeCrew()).results([])) == []


def test_a_worker_that_has_not_begun_gets_no_task():
    crew = FakeCrew(on_start=lambda worker: [Ready(worker, None)] * (worker == 1))
    supervisor = supervised(crew, 3)
    assert len(list(supervisor.results("abc"))) == 3
    assert [worker for worker, _ in crew.given] == [1, 1, 1]
    assert supervisor.alive == 1


def test_facts_are_those_of_the_first_that_began():
    crew = FakeCrew(on_start=starting({0: [Died(0, "gone")]}))
    supervisor = supervised(crew)
    assert supervisor.facts() == "facts of 1"
    list(supervisor.results("ab"))
    assert supervisor.facts() == "facts of 1"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_failing_task_is_tried_three_times(workers):
    crew = FakeCrew(on_give=failing({"b": 2, "c": 9}))
    outcomes = {outcome.task: outcome for outcome in supervised(crew, workers).results("abc")}
    assert outcomes["a"] == Outcome("a", "result of a", None, 1)
    assert outcomes["b"] == Outcome("b", "result of b", None, 3)
    assert (outcomes["c"].result, outcomes["c"].attempts, str(outcomes["c"].error)) == (None, 3, "6 left")
    assert Counter(task for _, task in crew.given) == {"a": 1, "b": 3, "c": 3}


def test_a_task_that_fails_while_others_are_idle_is_tried_again():
    crew = FakeCrew(on_give=failing({"a": 1}))
    assert list(supervised(crew, 3).results("a")) == [Outcome("a", "result of a", None, 2)]


def test_what_is_not_worth_retrying_is_not_tried_again():
    crew = FakeCrew(on_give=failing({"a": 9, "b": 1}))
    retrying = Retrying(worth_retrying=lambda error: str(error) != "8 left")
    outcomes = {outcome.task: outcome.attempts for outcome in supervised(crew, 1, retrying=retrying).results("ab")}
    assert outcomes == {"a": 1, "b": 2}


def test_a_task_needs_an_attempt():
    with pytest.raises(ValueError, match="at least one attempt: 0"):
        Retrying(attempts=0)


def test_fatal_errors_of_tasks_are_raised_at_once():
    crew = FakeCrew(on_give=failing({"b": 1}, MemoryError))
    retrying = Retrying(fatal=(MemoryError,))
    results = supervised(crew, 1, retrying=retrying).results("abc")
    assert next(results).task == "a"
    with pytest.raises(MemoryError, match="0 left"):
        next(results)
    assert [task for _, task in crew.given] == ["a", "b"]


def test_fatal_errors_of_beginning_are_raised_at_once():
    crew = FakeCrew(on_start=starting({0: [Raised(0, FileNotFoundError("no model"))]}))
    with pytest.raises(FileNotFoundError, match="no model"):
        supervised(crew, retrying=Retrying(fatal=(OSError,))).facts()
    assert crew.calls == [("start", 0), ("start", 1)]


def test_a_dead_worker_is_replaced_and_its_task_tried_again():
    said = []
    crew = FakeCrew(on_give=dying({"b": 1}))
    supervisor = supervised(crew, 1, say=said.append)
    outcomes = list(supervisor.results("abc"))
    assert [(outcome.task, outcome.attempts) for outcome in outcomes] == [("a", 1), ("b", 2), ("c", 1)]
    assert said == ["worker 0 died at task b: its process died of SIGKILL; it is replaced"]
    assert (supervisor.replaced, supervisor.alive) == (1, 1)
    assert crew.calls == [("start", 0), ("start", 0)]


def test_a_task_that_kills_its_workers_is_counted_in_the_end():
    crew = FakeCrew(on_give=dying({"b": 9}))
    supervisor = supervised(crew)
    outcomes = {outcome.task: outcome for outcome in supervisor.results("abc")}
    assert [outcomes[task].attempts for task in "abc"] == [1, 3, 1]
    assert isinstance(outcomes["b"].error, WorkError)
    assert str(outcomes["b"].error) == "its worker died: its process died of SIGKILL"
    assert supervisor.replaced == 3


def test_a_death_is_worth_retrying_whatever_errors_are():
    crew = FakeCrew(on_give=dying({"a": 1}))
    retrying = Retrying(worth_retrying=lambda _error: False)
    assert [outcome.attempts for outcome in supervised(crew, retrying=retrying).results("a")] == [2]


def test_an_idle_worker_that_dies_is_replaced():
    said = []
    crew = FakeCrew()
    supervisor = supervised(crew, 1, say=said.append)
    supervisor.facts()
    crew.told.append(Died(0, "gone"))
    supervisor._hear(None)
    assert supervisor.alive == 0
    assert [outcome.attempts for outcome in supervisor.results("a")] == [1]
    assert said == ["worker 0 died: gone; it is replaced"]
    assert supervisor.replaced == 1


def test_a_worker_that_cannot_begin_is_given_up_and_the_others_go_on():
    said = []
    faults = [Died(0, "exit code 1"), Raised(0, OSError("no device")), Died(0, "exit code 2")]
    crew = FakeCrew(on_start=starting({0: faults}))
    supervisor = supervised(crew, say=said.append)
    assert len(list(supervisor.results(range(9)))) == 9
    assert crew.calls.count(("start", 0)) == 3
    assert crew.calls.count(("end", 0)) == 1  # it lived, and was not wanted
    assert said == [
        "worker 0 could not begin: exit code 1; it is started again",
        "worker 0 could not begin: OSError: no device; it is started again",
        "worker 0 is given up, it could not be started 3 times: exit code 2",
    ]
    assert {worker for worker, _ in crew.given} == {1}
    assert supervisor.replaced == 0


def test_where_no_worker_can_begin_it_is_told_why():
    faults = {worker: [Raised(worker, OSError("no device"))] * 3 for worker in range(2)}
    crew = FakeCrew(on_start=starting(faults))
    with pytest.raises(WorkError, match="no worker could be started: OSError: no device"):
        list(supervised(crew).results("a"))
    assert crew.calls.count(("start", 0)) == crew.calls.count(("start", 1)) == 3
    with pytest.raises(WorkError, match="no worker could be started: gone"):
        supervised(FakeCrew(on_start=lambda worker: [Died(worker, "gone")])).facts()


def test_a_worker_that_began_may_fail_to_begin_as_often_again():
    crew = FakeCrew(
        on_start=starting({0: [Died(0, "x"), Died(0, "x"), Ready(0, None), Died(0, "x"), Died(0, "x")]}),
        on_give=dying({"b": 1}),
    )
    assert len(list(supervised(crew, 1).results("abc"))) == 3
    assert crew.calls.count(("start", 0)) == 6


def test_a_lost_task_is_not_lost_when_the_last_worker_is_given_up():
    """Its error is that no worker could be started, not silence."""
    crew = FakeCrew(on_start=starting({0: [Ready(0, None), *[Died(0, "no device")] * 3]}), on_give=dying({"a": 1}))
    with pytest.raises(WorkError, match="no worker could be started: no device"):
        list(supervised(crew, 1).results("ab"))


def test_tasks_are_taken_as_workers_come_free():
    taken = []

    def tasks():
        for task in range(100):
            taken.append(task)
            yield task

    done = 0
    for _ in supervised(FakeCrew(), 3).results(tasks()):
        done += 1
        assert len(taken) <= done + 3
    assert done == 100


def test_nothing_is_taken_before_a_worker_has_begun():
    taken = []
    crew = FakeCrew(on_start=lambda _worker: [])
    with pytest.raises(AssertionError, match="wait for ever"):
        list(supervised(crew).results(map(taken.append, range(5))))
    assert taken == []


def test_workers_are_ended_when_the_block_is_left():
    crew = FakeCrew()
    with pytest.raises(KeyError), supervised(crew):
        raise KeyError
    assert crew.calls[-1] == ("close",)


class SlowCrew(FakeCrew):
    """A task takes as many seconds as `seconds(worker, task)` returns; None: it never ends."""

    def __init__(self, seconds):
        super().__init__(on_give=self._begun)
        self.seconds = seconds
        self.ends = []  # when, worker, result

    def _begun(self, worker, task):
        seconds = self.seconds(worker, task)
        if seconds is not None:
            self.ends.append((self.now + seconds, worker, task))
        return []

    def events(self, seconds):
        if not self.told and self.ends:
            first = min(self.ends)
            if seconds is None or first[0] <= self.now + seconds:
                self.ends.remove(first)
                self.now, worker, task = first
                self.told.append(Done(worker, (worker, task)))
        return super().events(seconds)


def tail(worker, task):
    """One second a task; the last one never ends where it was begun first."""
    return None if task == 9 and worker == tail.stuck else 1.0


@pytest.fixture
def stuck():
    tail.stuck = 1  # ten tasks in turn: the last one goes to worker 1


def test_a_slow_task_is_given_to_an_idle_worker_once_no_others_are_left(stuck):
    crew = SlowCrew(tail)
    supervisor = supervised(crew, overtaking=True)
    outcomes = list(supervisor.results(range(10)))
    assert sorted(outcome.task for outcome in outcomes) == list(range(10))
    assert outcomes[-1] == Outcome(9, (0, 9), None, 1)
    assert [given for given in crew.given if given[1] == 9] == [(1, 9), (0, 9)]
    assert supervisor.overtaken == 1
    assert crew.now == pytest.approx(4 + 10 + 1)  # begun after 4 seconds, slow after 10, done by another in 1


def test_it_is_left_alone_where_work_may_not_be_done_twice_at_once(stuck):
    crew = SlowCrew(tail)
    with pytest.raises(AssertionError, match="wait for ever"):
        list(supervised(crew).results(range(10)))
    assert Counter(task for _, task in crew.given)[9] == 1


def test_what_is_slow_is_told_by_what_is_usual():
    crew = SlowCrew(lambda worker, task: 100.0 if task < 9 else None if worker == 1 else 7.0)
    supervisor = supervised(crew, overtaking=True)
    assert len(list(supervisor.results(range(10)))) == 10
    assert crew.now == pytest.approx(400 + 300 + 7)
    assert supervisor.overtaken == 1


def test_the_later_of_two_results_is_not_counted():
    crew = SlowCrew(lambda worker, task: (20.0 if worker == 1 else 12.0) if task == 9 else 1.0)
    supervisor = supervised(crew, overtaking=True)
    assert [outcome.task for outcome in supervisor.results(range(10))].count(9) == 1
    assert supervisor.overtaken == 1
    assert crew.now == pytest.approx(4 + 20)  # the first one was faster after all
    # The other one is at it still; its result comes while more is done, and is nobody's.
    outcomes = list(supervisor.results([20] * 30))
    assert [outcome.result[1] for outcome in outcomes] == [20] * 30
    assert {worker for worker, task in crew.given if task == 20} == {0, 1}


def test_no_more_than_two_are_at_one_task():
    crew = SlowCrew(lambda _worker, task: {8: 50.0, 9: None}.get(task, 1.0))  # task 8 ends while two are at task 9
    with pytest.raises(AssertionError, match="wait for ever"):
        list(supervised(crew, 6, overtaking=True).results(range(10)))
    assert Counter(task for _, task in crew.given if task >= 8) == {8: 2, 9: 2}


def test_a_failure_of_one_of_two_leaves_the_task_to_the_other():
    class Failing(SlowCrew):
        def events(self, seconds):
            events = super().events(seconds)
            return [Raised(event.worker, OSError("disk")) if event == Done(0, (0, 9)) else event for event in events]

    crew = Failing(lambda worker, task: (20.0 if worker == 1 else 1.0) if task == 9 else 1.0)
    outcomes = list(supervised(crew, overtaking=True).results(range(10)))
    assert outcomes[-1].result == (1, 9)
    assert outcomes[-1].error is None
    assert [outcome.task for outcome in outcomes].count(9) == 1


class WildCrew(FakeCrew):
    """Anything that may happen happens, in any order; after a number of faults nothing goes wrong any more."""

    def __init__(self, draw, faults):
        super().__init__(on_start=lambda _worker: [], on_give=lambda _worker, _task: [])
        self.draw = draw
        self.faults = faults

    def events(self, seconds):
        if seconds is not None and self.draw(st.booleans()):
            self.now += seconds
            return []
        self.now += self.draw(st.sampled_from([0.0, 1.0, 30.0]))
        going = sorted(worker for worker, state in self.state.items() if state not in {"ready", "failed"})
        idle = sorted(worker for worker, state in self.state.items() if state == "ready")
        may_die = going + (idle if self.faults else [])
        assert going, "it would wait for ever"
        worker = self.draw(st.sampled_from(may_die))
        kinds = (["good"] if worker in going else []) + (["dies"] + ["raises"] * (worker in going)) * bool(self.faults)
        kind = self.draw(st.sampled_from(kinds))
        self.faults -= kind != "good"
        state = self.state[worker]
        if kind == "dies":
            self.told.append(Died(worker, "gone"))
        elif kind == "raises":
            self.told.append(Raised(worker, OSError(f"of {state}")))
        else:
            self.told.append(Ready(worker, None) if state == "starting" else Done(worker, state * 10))
        return super().events(None)


@given(st.data(), st.integers(1, 4), st.integers(0, 9), st.integers(0, 25), st.booleans())
def test_in_any_order_of_events_every_task_has_exactly_one_outcome(data, workers, tasks, faults, overtaking):
    crew = WildCrew(data.draw, faults)
    outcomes, told = _until_the_end(supervised(crew, workers, overtaking=overtaking).results(range(tasks)))
    if told:
        assert told.startswith("no worker could be started: ")
        assert not crew.state  # otherwise one of them could go on
    else:
        assert sorted(outcome.task for outcome in outcomes) == list(range(tasks))
    assert max(Counter(outcome.task for outcome in outcomes).values(), default=1) == 1
    tried = Counter(task for _, task in crew.given)
    for outcome in outcomes:
        if outcome.error is None:
            assert outcome.result == outcome.task * 10
        else:
            assert outcome.attempts >= 3
        assert 1 <= outcome.attempts <= tried[outcome.task]
    if not overtaking:
        assert max(tried.values(), default=0) <= 3


def _until_the_end(results):
    outcomes = []
    try:
        for outcome in results:
            outcomes.append(outcome)  # noqa: PERF402  what came before an error counts too
    except WorkError as error:
        return outcomes, str(error)
    return outcomes, ""

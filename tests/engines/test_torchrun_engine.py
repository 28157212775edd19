"""Processes of a launcher know their numbers and cover all tasks, whatever order they run in and whoever dies."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.engines.torchrun_engine import Rank, own_then_others, rank_of_environment
from scalselect.errors import OptionError

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_TASKS_PER_NODE": "4(x2)",
}
PMI = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}
LAUNCHERS = {"torchrun": TORCHRUN, "Open MPI": OPEN_MPI, "Slurm": SLURM, "MPI": PMI}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launchers_variables(launcher):
    rank = rank_of_environment(LAUNCHERS[launcher])
    assert rank == Rank(launcher, 5, 8, 1, 4)
    assert str(rank) == f"process 5 of 8 that {launcher} started"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_process_that_is_alone(launcher):
    names = [name for name in LAUNCHERS[launcher] if name != "SLURM_STEP_ID"]
    alone = {**LAUNCHERS[launcher], names[0]: "0", names[1]: "1"}
    assert rank_of_environment(alone) is None


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("which", [0, 1])
def test_half_of_the_variables_is_none(launcher, which):
    names = [name for name in LAUNCHERS[launcher] if name != "SLURM_STEP_ID"]
    environment = dict(LAUNCHERS[launcher])
    assert rank_of_environment({**environment, names[which]: ""}) is None
    for odd in ("first", "-1"):
        odd_ones = {**environment, names[which]: odd}
        if launcher == "torchrun":  # a slip in a script: each process would do everything
            with pytest.raises(OptionError, match=f"RANK and WORLD_SIZE must be whole numbers: .*'{odd}'"):
                rank_of_environment(odd_ones)
        else:
            assert rank_of_environment(odd_ones) is None
    del environment[names[which]]
    assert rank_of_environment(environment) is None


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(("number", "world"), [("8", "8"), ("9", "8"), ("0", "0"), ("1", "0"), ("1", "1")])
def test_numbers_that_contradict_one_another(launcher, number, world):
    first, second = [name for name in LAUNCHERS[launcher] if name != "SLURM_STEP_ID"][:2]
    told = f"{first} must lie between 0 and {second} - 1: {number} and {world}; unset both to work alone"
    with pytest.raises(OptionError, match=f"^{re.escape(told)}$"):
        rank_of_environment({**LAUNCHERS[launcher], first: number, second: world})


def test_no_launcher_at_all(monkeypatch):
    assert rank_of_environment({}) is None
    assert rank_of_environment({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}) is None
    for environment in LAUNCHERS.values():
        for name in environment:
            monkeypatch.delenv(name, raising=False)
    assert rank_of_environment() is None
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert rank_of_environment() == Rank("torchrun", 5, 8, 1, 4)


def test_a_batch_script_of_slurm_is_no_step():
    """It runs once, on the first node, with the variables of all tasks of its job."""
    batch = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    assert rank_of_environment(batch) is None
    assert rank_of_environment(batch | TORCHRUN) == Rank("torchrun", 5, 8, 1, 4)


def test_torchrun_started_by_slurm_counts_as_torchrun():
    """Of two launchers, one within the other, the inner one has more processes."""
    within = {**SLURM, "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1(x2)"}
    assert rank_of_environment(within | TORCHRUN) == Rank("torchrun", 5, 8, 1, 4)
    assert rank_of_environment(within) == Rank("Slurm", 1, 2, 0, 1)


@pytest.mark.parametrize(("per_node", "local_world"), [("4(x2)", 4), ("8", 8), ("4,2", 4), ("3(x2),2", 3), ("2", 2)])
def test_tasks_per_node_as_slurm_writes_them(per_node, local_world):
    assert rank_of_environment({**SLURM, "SLURM_TASKS_PER_NODE": per_node}).local_world == local_world


def test_what_is_not_said_of_this_machine():
    """Without more it is one machine; and there are never fewer processes on it than the number of this one says."""
    assert rank_of_environment({"RANK": "2", "WORLD_SIZE": "3"}) == Rank("torchrun", 2, 3, 2, 3)
    assert rank_of_environment({"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}) == Rank("torchrun", 2, 3, 0, 3)
    assert rank_of_environment({**SLURM, "SLURM_LOCALID": "3", "SLURM_TASKS_PER_NODE": "2"}).local_world == 4


def ranks_of(world):
    return [Rank("torchrun", number, world, number, world) for number in range(world)]


class Job:
    """Tasks that several processes do, a step of one of them at a time."""

    def __init__(self, tasks, world):
        self.tasks = tasks
        self.done = set()
        self.taken = []
        self.asked = [0] * world
        self.left = {
            rank.number: own_then_others(rank, tasks, self.missing_for(rank.number)) for rank in ranks_of(world)
        }

    def missing_for(self, number):
        def missing(some):
            self.asked[number] += 1
            return [task for task in some if task not in self.done]

        return missing

    def step(self, number):
        """Let a process do its next task; it is gone where there is none."""
        task = next(self.left[number], None)
        if task is None:
            del self.left[number]
            return
        self.taken.append((number, task))
        self.done.add(task)


TASKS = st.lists(st.integers(0, 60), unique=True, max_size=30).map(sorted)


@given(TASKS, st.integers(2, 6), st.data())
def test_whatever_the_order_in_which_they_come_all_is_done(tasks, world, data):
    job = Job(tasks, world)
    dies = data.draw(st.sets(st.integers(0, world - 1), max_size=world - 1))
    while job.left:
        number = data.draw(st.sampled_from(sorted(job.left)))
        if number in dies and data.draw(st.booleans()):
            task = next(job.left.pop(number), None)  # taken, and never done
            assert task is None or task in tasks
        else:
            job.step(number)
    assert job.done == set(tasks)
    for number in range(world):
        mine = [task for who, task in job.taken if who == number]
        own = [task for task in mine if task % world == number]
        others = mine[len(own) :]
        assert len(mine) == len(set(mine))
        assert own == sorted(own)
        assert mine[: len(own)] == own  # its own come first
        assert others == sorted(others, reverse=True)
    assert max(job.asked) <= 1


@given(TASKS, st.integers(2, 6))
def test_in_step_each_does_its_own_and_no_other(tasks, world):
    job = Job(tasks, world)
    while job.left:
        for number in list(job.left):
            job.step(number)
    assert len(job.taken) >= len(job.done)
    for number in range(world):
        own = [task for task in tasks if task % world == number]
        assert [task for who, task in job.taken if who == number][: len(own)] == own


@given(TASKS, st.integers(2, 6), st.integers(2, 6), st.data())
def test_a_start_with_another_number_of_processes_goes_on(tasks, before, after, data):
    """What is missing after all of a first start died is done by the second: by number, not by place in the list."""
    first = Job(tasks, before)
    for _ in range(data.draw(st.integers(0, len(tasks)))):
        if first.left:
            first.step(data.draw(st.sampled_from(sorted(first.left))))
    left = [task for task in tasks if task not in first.done]
    second = Job(left, after)
    while second.left:
        second.step(data.draw(st.sampled_from(sorted(second.left))))
    assert first.done | second.done == set(tasks)
    own = [(who, task) for who, task in second.taken if task % after == who]
    assert {task for _, task in own} <= set(left)


def test_nobody_is_asked_where_there_are_no_others():
    assert list(own_then_others(ranks_of(3)[1], [1, 4, 7], pytest.fail)) == [1, 4, 7]
    assert list(own_then_others(ranks_of(3)[1], [], pytest.fail)) == []


def test_others_are_looked_at_when_the_own_are_done():
    seen = []

    def missing(some):
        seen.append(list(some))
        return {3}

    tasks = own_then_others(ranks_of(2)[0], [0, 1, 2, 3, 5], missing)
    assert [next(tasks), next(tasks)] == [0, 2]
    assert seen == []
    assert list(tasks) == [3]
    assert seen == [[1, 3, 5]]

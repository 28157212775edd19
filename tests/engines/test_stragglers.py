"""Jobs with slow, dying, hanging and broken workers lose no shard and end soon; a simulation on a virtual clock."""

from __future__ import annotations

import math

import pytest

from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from stragglers import supervised
from strided_ranks import strided
from virtual_crew import Job, Troubles, VirtualCrew

JOB = Job(name="small", shards=400, workers=8, seconds=40.0, a_node=4)
DYING = {"worker_hours": 0.3, "node_hours": 0.5, "failed_starts": 0.05, "away_minutes": 2.0, "gone": 0.0}
SLOWNESS = 3.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("overtaking", [False, True])
def test_no_shard_is_lost_and_each_has_one_outcome(seed, overtaking):
    ran = supervised(JOB, Troubles(slow=0.25, **DYING), seed, overtaking=overtaking)
    assert ran.deaths > 0
    assert ran.departures > 0
    assert (ran.missing, ran.repeated) == (0, 0)
    assert ran.ideal < ran.seconds < math.inf
    assert 0 < ran.lost < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_tail_is_a_few_slow_shards_with_overtaking(seed):
    troubles = Troubles(slow=0.25, slowness=SLOWNESS, hangs=0)
    ran = supervised(JOB, troubles, seed, overtaking=True)
    assert ran.overtaken > 0
    assert ran.tail < 3 * SLOWNESS * JOB.seconds


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_hangs_holds_up_the_job_only_without_overtaking(seed):
    troubles = Troubles(hangs=0)
    held_up = supervised(JOB, troubles, seed, overtaking=False)
    assert (held_up.seconds, held_up.missing) == (math.inf, 1)
    ran = supervised(JOB, troubles, seed, overtaking=True)
    assert (ran.missing, ran.repeated, ran.failed) == (0, 0, 0)
    assert ran.seconds < 1.5 * ran.ideal


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_fails_at_everything_costs_no_shard(seed):
    ran = supervised(JOB, Troubles(sick=1), seed, overtaking=True)
    assert (ran.missing, ran.repeated, ran.failed) == (0, 0, 0)
    assert ran.lost > 0
    assert ran.seconds < 1.5 * ran.ideal


def test_workers_that_all_fail_are_not_replaced():
    crew = VirtualCrew(Job(name="one", shards=20, workers=1, seconds=1.0), Troubles(sick=0), 0, horizon=1e6)
    with Supervisor[int, int](crew, 1, retrying=Retrying(), clock=crew.clock) as supervisor:
        outcomes = list(supervisor.results(range(20)))
    assert [(outcome.task, outcome.attempts) for outcome in outcomes] == [(task, 3) for task in range(20)]
    assert supervisor.replaced == 0


def test_a_stride_costs_what_the_slowest_rank_costs_and_the_sweep_gives_it_back():
    troubles = Troubles(slow=0.125, slowness=SLOWNESS)
    alone, swept = (strided(JOB, troubles, 0, sweep=sweep) for sweep in (False, True))
    ran = supervised(JOB, troubles, 0, overtaking=False)
    assert (alone.missing, alone.swept, swept.missing, swept.twice) == (0, 0, 0, 0)
    assert swept.swept > 0
    assert alone.seconds > 2.2 * ran.ideal
    assert swept.seconds < 1.3 * ran.ideal


def test_shards_of_a_dead_rank_are_swept_by_the_others():
    troubles = Troubles(worker_hours=1.0)
    alone, swept = (strided(JOB, troubles, 0, sweep=sweep) for sweep in (False, True))
    assert 0 < alone.dead < JOB.workers
    assert alone.missing > 0
    assert (swept.missing, swept.twice) == (0, 0)

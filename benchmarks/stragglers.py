"""How long a job of many shards takes beside the ideal when workers are slow, die, leave or hang: a simulation.

``python benchmarks/stragglers.py [--seeds 5] [--quick]`` drives the `Supervisor` that the engines use, with a crew on a
virtual clock (`virtual_crew.py`), over days of work in seconds, with and without overtaking; and beside it the division
of torchrun (`strided_ranks.py`). The same call prints the same tables. It exits with 1 if a shard is lost or has more
than one outcome. The troubles are drawn far worse than is usual, so that all of them happen.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from strided_ranks import strided
from virtual_crew import NEVER, HeldUpError, Job, Troubles, VirtualCrew, ideal_seconds

if TYPE_CHECKING:
    from strided_ranks import Strided

HORIZON = 20.0  # times the ideal: a job that takes longer counts as held up for ever

JOBS = (
    Job(name="10^7 rows in 1,000 shards on 8 workers", shards=1_000, workers=8, seconds=40.0),
    Job(name="10^7 rows in 10,000 shards on 16 workers", shards=10_000, workers=16, seconds=4.0),
    Job(name="10^9 rows in 100,000 shards on 64 workers", shards=100_000, workers=64, seconds=40.0),
)
QUICK_JOBS = (Job(name="300 shards on 8 workers", shards=300, workers=8, seconds=40.0, a_node=4),)
SLOW = 0.125
DYING = {"worker_hours": 50.0, "node_hours": 100.0, "failed_starts": 0.05}
TROUBLES = {
    "none": Troubles(),
    "an eighth of the workers 3 times slower": Troubles(slow=SLOW),
    "one worker in eight 10 times slower": Troubles(slow=SLOW, slowness=10.0),
    "slow, dying, nodes that leave": Troubles(slow=SLOW, **DYING),
    "the same, and one hangs for ever": Troubles(slow=SLOW, hangs=0, **DYING),
    "the same, and one fails at everything": Troubles(slow=SLOW, hangs=0, sick=1, **DYING),
}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a supervised job ended.

    Attributes
    ----------
    seconds
        Until the last outcome; infinite if the job was held up for ever.
    ideal
        Work over the sum of speeds.
    tail
        Seconds from the first worker without work to the end.
    lost, twice
        Shares of the workers' seconds that went into attempts that failed, and into what was done twice.
    missing, repeated, failed
        Shards without an outcome, with more than one, and with an error as outcome.
    deaths, departures, overtaken
        Workers that died, nodes that left, shards that were given to a second worker.
    """

    seconds: float
    ideal: float
    tail: float
    lost: float
    twice: float
    missing: int
    repeated: int
    failed: int
    deaths: int
    departures: int
    overtaken: int


def supervised(job: Job, troubles: Troubles, seed: int, *, overtaking: bool) -> Ran:
    """Run a job under the supervisor on a virtual clock."""
    ideal = ideal_seconds(job, troubles, seed)
    crew = VirtualCrew(job, troubles, seed, horizon=HORIZON * ideal + 3600)
    outcomes: Counter[int] = Counter()
    failed, seconds = 0, NEVER
    supervisor: Supervisor[int, int] = Supervisor(
        crew, job.workers, retrying=Retrying(), overtaking=overtaking, clock=crew.clock, say=lambda _words: None
    )
    with supervisor:
        try:
            for outcome in supervisor.results(range(job.shards)):
                outcomes[outcome.task] += 1
                failed += outcome.error is not None
            seconds = crew.now
        except HeldUpError:
            pass
    account = crew.account
    worked = account.useful + account.twice + account.lost
    return Ran(
        seconds=seconds,
        ideal=ideal,
        tail=seconds - account.first_idle if seconds < NEVER else NEVER,
        lost=account.lost / worked,
        twice=account.twice / worked,
        missing=job.shards - len(outcomes),
        repeated=sum(count > 1 for count in outcomes.values()),
        failed=failed,
        deaths=account.deaths,
        departures=account.departures,
        overtaken=supervisor.overtaken,
    )


def troubles_of(job: Job) -> dict[str, Troubles]:
    """Return what may go wrong; where all workers are on one machine that does not leave, for the job is there too."""
    if job.workers > job.a_node:
        return TROUBLES
    return {name: replace(troubles, node_hours=NEVER) for name, troubles in TROUBLES.items()}


def supervised_table(job: Job, seeds: int) -> tuple[list[str], bool]:
    """Return the lines of a job under supervision, and whether every shard of every run had exactly one outcome."""
    lines = [
        (
            f"{'':40}{'over':>6}{'time / ideal':>24}{'tail, s':>28}{'failed':>8}{'twice':>8}"
            f"{'deaths':>8}{'left':>6}{'overtaken':>11}{'lost':>6}{'error':>7}"
        )
    ]
    sound = True
    for name, troubles in troubles_of(job).items():
        for overtaking in (False, True):
            ran = [supervised(job, troubles, seed, overtaking=overtaking) for seed in range(seeds)]
            held_up = any(one.seconds == NEVER for one in ran)
            lost = max(one.missing for one in ran)
            sound &= (lost == 0 or (held_up and troubles.hangs is not None and not overtaking)) and not any(
                one.repeated for one in ran
            )
            lines.append(
                f"{name:40}{'yes' if overtaking else 'no':>6}"
                f"{spread([one.seconds / one.ideal for one in ran], 3):>24}"
                f"{spread([one.tail for one in ran], 0):>28}"
                f"{middle([one.lost for one in ran]):>8.2%}{middle([one.twice for one in ran]):>8.2%}"
                f"{middle([one.deaths for one in ran]):>8.0f}{middle([one.departures for one in ran]):>6.0f}"
                f"{middle([one.overtaken for one in ran]):>11.0f}{lost:>6}{max(one.failed for one in ran):>7}"
            )
    return lines, sound


def strided_table(job: Job, seeds: int) -> list[str]:
    """Return the lines of the same job divided as torchrun does, without and with the sweep."""
    lines = [f"{'':40}{'sweep':>6}{'time / ideal':>24}{'tail, s':>28}{'dead':>8}{'swept':>9}{'missing':>9}{'twice':>7}"]
    for name, troubles in list(troubles_of(job).items())[:4]:
        for sweep in (False, True):
            ran = [strided(job, troubles, seed, sweep=sweep) for seed in range(seeds)]
            ratios = [one.seconds / ideal_seconds(job, troubles, seed) for seed, one in enumerate(ran)]
            tails = [_tail(one) for one in ran]
            lines.append(
                f"{name:40}{'yes' if sweep else 'no':>6}{spread(ratios, 3):>24}{spread(tails, 0):>28}"
                f"{middle([one.dead for one in ran]):>8.0f}{middle([one.swept for one in ran]):>9.0f}"
                f"{max(one.missing for one in ran):>9}{max(one.twice for one in ran):>7}"
            )
    return lines


def middle(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: list[float], digits: int) -> str:
    """Return median, lowest and highest; `never` for what does not end."""
    low, median, high = (
        "never" if value == NEVER else f"{value:.{digits}f}" for value in (min(values), middle(values), max(values))
    )
    return low if low == high else f"{median} ({low}..{high})"


def _tail(ran: Strided) -> float:
    return max(0.0, ran.seconds - ran.first_idle)


def main() -> int:
    """Read the command line, simulate, print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="Simulate jobs of many shards with slow, dying and hanging workers.")
    parser.add_argument("--seeds", type=int, help="repetitions with other random numbers (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a tiny job, 2 seeds: shows only that it runs")
    options = parser.parse_args()
    seeds = options.seeds or (2 if options.quick else 5)
    if seeds < 1:
        parser.error("--seeds must be at least 1")
    logging.disable(logging.WARNING)
    print("\n".join(facts(seeds)), flush=True)
    sound = True
    for job in QUICK_JOBS if options.quick else JOBS:
        lines, one_outcome = supervised_table(job, seeds)
        sound &= one_outcome
        print(f"\n=== {job.name}, {job.seconds:.0f} s a shard (sigma {job.spread}), {job.a_node} workers a node ===")
        print(
            "\n".join(["under supervision", *lines, "", "divided as torchrun does", *strided_table(job, seeds)]),
            flush=True,
        )
    print(f"\nevery shard has exactly one outcome wherever the job ended: {'yes' if sound else 'NO'}")
    return int(not sound)


def facts(seeds: int) -> list[str]:
    """Return lines that say what was simulated."""
    usual = Troubles(**DYING)
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"software  Python {platform.python_version()}; nothing is measured, the clock is virtual",
        f"troubles  dying: a worker every {usual.worker_hours:.0f} hours of work, 5% of starts fail, each takes 60 s;",
        f"          a node leaves every {usual.node_hours:.0f} hours with its workers, is back after 10 minutes (mean)",
        "          or, in one of five cases, never",
        "columns   failed: share of the workers' time in attempts that failed; twice: in shards done twice, or hung;",
        "          tail: from the first worker without work to the end; lost: shards without outcome; error: with one",
        f"cells     median (lowest..highest) of {seeds} seeds; of lost, error and missing the highest",
    ]


if __name__ == "__main__":
    sys.exit(main())

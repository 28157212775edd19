"""The division of torchrun on a virtual clock: rank r has the shards k with k % ranks == r, and then sweeps.

No rank is replaced: a launcher that loses one goes on with the others, or is called again. A shard that somebody is at
is claimed; the claim of a dead rank counts for nothing after a minute.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtual_crew import NEVER

if TYPE_CHECKING:
    from virtual_crew import Job, Troubles

PATIENCE = 60.0  # seconds until the claim of a dead rank on another machine counts for nothing


@dataclass(frozen=True, slots=True)
class Strided:
    """How a strided job ended.

    Attributes
    ----------
    seconds
        Until the last rank has nothing left to do.
    first_idle
        Seconds until the first living rank has nothing left to do.
    missing
        Shards that nobody did; the same command does them later.
    twice
        Shards that were done twice.
    swept
        Shards that were done by another rank than their own.
    dead
        Ranks that died.
    """

    seconds: float
    first_idle: float
    missing: int
    twice: int
    swept: int
    dead: int


def strided(job: Job, troubles: Troubles, seed: int, *, sweep: bool) -> Strided:
    """Let ranks go through their own shards in ascending order and, if told, through all others from the end."""
    ranks = _Ranks(job, troubles, seed, sweep=sweep)
    ranks.run()
    times = ranks.times
    return Strided(
        seconds=ranks.now,
        first_idle=ranks.first_idle,
        missing=times.count(0),
        twice=sum(count > 1 for count in times),
        swept=ranks.swept,
        dead=sum(when <= ranks.now for when in ranks.dies),
    )


class _Ranks:
    """The ranks and their clock. An event is a time, a tie breaker, a rank (None: a claim that lapses) and a shard."""

    def __init__(self, job: Job, troubles: Troubles, seed: int, *, sweep: bool) -> None:
        self.now, self.first_idle, self.swept = 0.0, NEVER, 0
        self.times = [0] * job.shards  # that a shard was done
        self.dies = _deaths(job, troubles, seed)
        self._slowness = troubles.slowness_of(job.workers, seed)
        self._needed = job.shard_seconds(seed)
        self._sweep = sweep
        self._free = [True] * job.shards  # claimed by nobody
        self._own = [iter(range(rank, job.shards, job.workers)) for rank in range(job.workers)]
        self._others = iter(range(job.shards - 1, -1, -1))
        self._lapsed: list[int] = []
        self._waiting: list[int] = []
        self._heap: list[tuple[float, int, int | None, int]] = []
        self._pushed = 0
        self._start = troubles.start_seconds

    def run(self) -> None:
        """Let everything happen."""
        for rank in range(len(self._own)):
            self._go_on(self._start, rank)
        while self._heap:
            now, _, rank, shard = heapq.heappop(self._heap)
            if rank is None:
                self._lapsed.append(shard)
                while self._waiting and self._lapsed:
                    self._go_on(now, self._waiting.pop(0))
            elif self.dies[rank] <= now:
                self._push(now + PATIENCE, None, shard)
            else:
                self.now = now
                self.times[shard] += 1
                self._go_on(now, rank)

    def _go_on(self, now: float, rank: int) -> None:
        """Let a rank begin its next shard, or wait for a claim to lapse."""
        if self.dies[rank] <= now:
            return
        shard = self._next(rank)
        if shard is None:
            self.first_idle = min(self.first_idle, now)
            if self._sweep:
                self._waiting.append(rank)
            return
        self._free[shard] = False
        self._push(min(now + self._needed[shard] * self._slowness[rank], self.dies[rank]), rank, shard)

    def _next(self, rank: int) -> int | None:
        shard = next((shard for shard in self._own[rank] if self._free[shard]), None)
        if shard is not None or not self._sweep:
            return shard
        if self._lapsed:
            return self._lapsed.pop()
        shard = next((shard for shard in self._others if self._free[shard]), None)
        self.swept += shard is not None
        return shard

    def _push(self, time: float, rank: int | None, shard: int) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (time, self._pushed, rank, shard))


def _deaths(job: Job, troubles: Troubles, seed: int) -> list[float]:
    """Draw when each rank dies, on its own or with its node."""
    draw = random.Random(f"ranks {seed}")

    def once(hours: float) -> float:
        return NEVER if hours == NEVER else draw.expovariate(1 / (3600 * hours))

    nodes = [once(troubles.node_hours) for _ in range(-(-job.workers // job.a_node))]
    return [min(once(troubles.worker_hours), nodes[rank // job.a_node]) for rank in range(job.workers)]

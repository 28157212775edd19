"""What a worker elsewhere is told of a run, and what it makes of it there: the same as one process does here."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.local_copies import remove_local_copies
from scalselect.pool_of_run import pool_of_run
from scalselect.represent_keys import option_keys
from scalselect.run_folder import RunFolder
from scalselect.run_json import refuse_other_keys
from scalselect.segments import entries_of
from scalselect.shard_worker import (
    Elsewhere,
    Finished,
    ModelFacts,
    ModelOfRun,
    ShardWorker,
    config_on,
    trouble_of_one_machine,
)
from scalselect.worker_logs import log_shard, worker_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.engines.crew import Retaken
    from scalselect.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """What a worker elsewhere is told: enough to do what `OneProcess` does here. Can be pickled.

    Attributes
    ----------
    segments
        Those whose shards are represented.
    pools
        Their data, where the files that are open here can be read there; None: opened anew, from what run.json tells.
    device, cpus
        What the worker may use; `devices` has one for each worker where they differ.
    """

    run_dir: str
    model: Any
    config: RepresentConfig
    segments: tuple[Segment, ...]
    pools: tuple[Pool, ...] | None
    devices: tuple[str, ...] = ("auto",)
    cpus: int | None = None
    keeps_descriptors: bool = False

    def __call__(self, worker: int) -> tuple[Callable[[int | Retaken], Finished | Elsewhere], ModelFacts]:
        """Load the model in a worker; return what represents shards there, and what the run must know."""
        shards = _ShardsElsewhere(self, worker)
        return shards, shards.facts


class _ShardsElsewhere:
    """Represents shards in a worker process; the data are opened with the first shard, when the run is recorded."""

    def __init__(self, job: ShardJob, number: int) -> None:
        self._job = job
        self._folder = RunFolder(job.run_dir)
        self._opened = False
        config = config_on(job.config, job.devices[number % len(job.devices)])
        log = worker_log(self._folder.logs, number, redirect_descriptors=not job.keeps_descriptors)
        with ExitStack() as resources:
            resources.callback(remove_local_copies)
            resources.enter_context(log)  # which tells on what beginning ended, too
            with trouble_of_one_machine():
                self._model = ModelOfRun(job.model, config, self._folder.read(), cpus=job.cpus)
                self._worker = resources.enter_context(ShardWorker(self._folder, self._model))
            self._resources = resources.pop_all()
        self.facts = self._model.facts

    def __call__(self, task: int | Retaken) -> Finished | Elsewhere:
        """Represent a shard; see `ShardWorker`."""
        with trouble_of_one_machine():
            if not self._opened:
                self._open()
            result = self._worker(task)
        if isinstance(result, Finished) and not result.adopted:
            log_shard(result.report)
        return result

    def close(self) -> None:
        """End the processes below, and the log; leave no copies of remote data behind."""
        self._resources.close()

    def _open(self) -> None:
        run, job = self._folder.require(), self._job
        keys = option_keys(self._model.config, self._model.settings)
        del keys["images"], keys["limit"]  # those of the data, which the process that recorded the run knows
        keys |= {f"model_{name}": value for name, value in self.facts.fingerprint.items()}
        refuse_other_keys({name: run["represent"].get(name) for name in keys}, keys, self._folder.path)
        pools: Sequence[Pool] | None = job.pools
        if pools is None:
            pool = pool_of_run({**run, "segments": entries_of(list(job.segments))}, None)
            pools = pool.parts if isinstance(pool, JoinedPool) else [pool]  # type: ignore[list-item]  # no own vectors
        self._worker.open(list(zip(job.segments, pools, strict=True)))
        self._opened = True

"""Who represents the shards of a call: this process, worker processes of this machine, or workers of a cluster."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.engines.local import run_tasks
from scalselect.engines.retrying import Retrying
from scalselect.engines.torchrun_engine import own_then_others
from scalselect.errors import DataChangedError, MisuseError, ShardError
from scalselect.leftovers import remove_leftovers
from scalselect.local_copies import remove_local_copies
from scalselect.pool_of_run import pool_of_run
from scalselect.remote_files import is_remote
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
from scalselect.storage import remove_tree
from scalselect.worker_logs import log_shard, worker_log
from scalselect.worker_place import look_from_worker, supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.engines.crew import Retaken
    from scalselect.engines.outcomes import Outcome
    from scalselect.engines.supervision import Supervisor
    from scalselect.engines.torchrun_engine import Rank
    from scalselect.missing_shards import Workforce
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore
    from scalselect.segments import Segment
    from scalselect.worker_place import WorkerPlace

    Outcomes = Iterator[Outcome[int, Finished | Elsewhere]]

_RETRYING = Retrying(
    # A single sample too large for the memory is as large the next time.
    worth_retrying=lambda error: not isinstance(error, ShardError),
    fatal=(MisuseError, DataChangedError, OSError),
)


@dataclass(frozen=True, slots=True, eq=False)
class OneProcess:
    """Represents all shards in this process, or its own ones among the processes of a launcher."""

    worker: ShardWorker
    used: ModelOfRun
    rank: Rank | None
    tells_rows: bool = True
    swept: set[int] = field(default_factory=set)  # shards of other processes, which were dead or slow

    @property
    def shows_others(self) -> bool:
        """Whether this process tells of the whole job's progress."""
        return self.rank is not None and self.rank.number == 0

    @property
    def number(self) -> int:
        """Number of processes that work at once."""
        return 1 if self.rank is None else self.rank.world

    def open(self, named: Sequence[tuple[Segment, Pool]]) -> None:
        """Take on the shards of some segments."""
        self.worker.open(named)

    @property
    def facts(self) -> ModelFacts:
        """What the run must know of the model."""
        return self.used.facts

    def in_order(self, shards: Collection[int], store: RepresentationStore) -> Iterable[int]:
        """Return the missing shards in the order in which they are to be taken."""
        if self.rank is None:
            return shards

        def still_missing(others: Iterable[int]) -> set[int]:
            return set(others) - store.files.published(range(min(others), max(others) + 1))

        return own_then_others(self.rank, shards, still_missing)

    def outcomes(self, shards: Iterable[int]) -> Outcomes:
        """Yield the outcome of every shard, in order."""
        return run_tasks(shards, self._work, **_RETRYING.as_options())

    def tell_workers(self, progress: Progress) -> None:
        """Tell nothing: there is one."""

    def model_of(self, _folder: RunFolder, _model: Any, _config: RepresentConfig, _processor: Any) -> ModelOfRun:
        """Return the model, for what comes later in the call."""
        return self.used

    def _work(self, shard: int) -> Finished | Elsewhere:
        result = self.worker(shard)
        if self.rank is not None and isinstance(result, Finished) and not result.adopted:
            log_shard(result.report)
            if shard % self.rank.world != self.rank.number:
                self.swept.add(shard)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class ManyWorkers:
    """Workers of an engine represent the shards, each with a model of its own."""

    supervisor: Supervisor[int, Finished | Elsewhere]
    facts: ModelFacts
    number: int
    device_here: str
    tells_rows: bool = False
    shows_others: bool = False

    def open(self, _named: Sequence[tuple[Segment, Pool]]) -> None:
        """Do nothing: each worker opens the data once the run is recorded."""

    def in_order(self, shards: Collection[int], _store: RepresentationStore) -> Iterable[int]:
        """Return the missing shards as they are."""
        return shards

    def outcomes(self, shards: Iterable[int]) -> Outcomes:
        """Yield the outcome of every shard, as they come."""
        return self.supervisor.results(shards)

    def tell_workers(self, progress: Progress) -> None:
        """Tell how many workers live."""
        progress.workers(self.supervisor.alive, self.number)

    def model_of(self, folder: RunFolder, model: Any, config: RepresentConfig, processor: Any) -> ModelOfRun:
        """Return the model for what comes later in the call: loaded here when it is needed."""
        return ModelOfRun(model, config_on(config, self.device_here), folder.require(), processor=processor)


@contextmanager
def workforce(
    place: WorkerPlace,
    folder: RunFolder,
    model: Any,
    config: RepresentConfig,
    named: Sequence[tuple[Segment, Pool]],
    *,
    recorded: dict[str, Any] | None,
    processor: Any,
    progress: Progress,
) -> Iterator[Workforce | Any]:
    """Yield who represents the shards of some segments, with the model loaded.

    Raises
    ------
    MisuseError
        The model, an option or a place where workers are to run cannot be used.
    WorkError
        No worker could be started.
    """
    if not place.is_elsewhere:
        rank = place.rank
        with ExitStack() as resources:
            if rank is not None:
                resources.enter_context(_no_logs_of_misuse(folder))
                resources.enter_context(worker_log(folder.logs, rank.number, redirect_descriptors=False))
            used = ModelOfRun(model, place.config_here(config), recorded, processor=processor, cpus=place.cpus_here)
            worker = resources.enter_context(ShardWorker(folder, used, on_row=progress.row))
            force = OneProcess(worker, used, rank)
            yield force
            if force.swept:
                remove_leftovers(folder.path)
        return
    in_memory = any(segment.path is None for segment, _ in named)
    job = ShardJob(
        run_dir=_absolute(folder.path),
        model=_absolute(model) if Path(model).is_dir() else model,
        config=_with_absolute_paths(config),
        segments=tuple(segment for segment, _ in named),
        pools=tuple(pool for _, pool in named) if place.shares_files or in_memory else None,
    )
    threads = None if recorded is None else int(recorded["represent"]["threads"])
    if config.threads != "auto":
        threads = int(config.threads)
    with (
        _no_logs_of_misuse(folder),
        look_from_worker(folder, job.segments) as look,
        supervised(place, job, _RETRYING, look=look, device=config.device, threads=threads, progress=progress) as (
            supervisor,
            number,
        ),
    ):
        facts: ModelFacts = supervisor.facts()
        yield ManyWorkers(supervisor, facts, number, place.here or "auto")
    if supervisor.replaced or supervisor.overtaken:
        remove_leftovers(folder.path)  # what those were writing that were killed


@contextmanager
def _no_logs_of_misuse(folder: RunFolder) -> Iterator[None]:
    """Leave nothing written where no worker could begin for what the call says."""
    places = [] if is_remote(str(folder.path)) else [folder.path, *folder.path.parents]
    missing = [place for place in places if not place.exists()]
    try:
        yield
    except MisuseError:
        if folder.read() is None:
            remove_tree(folder.logs)
            for place in missing:
                with contextlib.suppress(OSError):  # it holds other things, or is gone
                    place.rmdir()
        raise


def _absolute(path: str | Path) -> str:
    return str(path) if is_remote(str(path)) else str(Path(path).absolute())


def _with_absolute_paths(config: RepresentConfig) -> RepresentConfig:
    """Return options that mean the same in a process with another working directory."""
    template = config.chat_template
    if template is None or not Path(template).is_file():
        return config
    return replace(config, chat_template=_absolute(template))


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

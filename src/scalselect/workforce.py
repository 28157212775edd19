"""Who represents the shards of a call: this process, worker processes of this machine, or workers of a cluster."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.engines.local import run_tasks
from scalselect.engines.retrying import Retrying
from scalselect.engines.torchrun_engine import own_then_others
from scalselect.errors import DataChangedError, MisuseError, ShardError
from scalselect.leftovers import remove_leftovers
from scalselect.remote_files import is_remote
from scalselect.shard_job import ShardJob
from scalselect.shard_worker import (
    Elsewhere,
    Finished,
    ModelFacts,
    ModelOfRun,
    ShardWorker,
    config_on,
)
from scalselect.storage import remove_tree
from scalselect.worker_logs import log_shard, worker_log
from scalselect.worker_place import look_from_worker, supervised

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.engines.outcomes import Outcome
    from scalselect.engines.supervision import Supervisor
    from scalselect.engines.torchrun_engine import Rank
    from scalselect.missing_shards import Workforce
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore
    from scalselect.run_folder import RunFolder
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

    folder: RunFolder
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
        """Tell how many of a launcher's processes are at a shard, this one included, as far as claims show."""
        if self.shows_others and self.rank is not None:
            progress.workers(min(1 + self.folder.claims.living("shard-"), self.number), self.number)

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
            force = OneProcess(folder, worker, used, rank)
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
        _nothing_left_by_the_killed(folder) as known,
        supervised(
            place,
            job,
            _RETRYING,
            look=look,
            device=config.device,
            threads=threads,
            progress=progress,
            name=lambda shard: f"shard {shard}",
            most=sum(len(segment.shards) for segment in job.segments),
        ) as (supervisor, number),
    ):
        known.append(supervisor)
        facts: ModelFacts = supervisor.facts()
        yield ManyWorkers(supervisor, facts, number, place.here or "auto")


@contextmanager
def _nothing_left_by_the_killed(folder: RunFolder) -> Iterator[list[Supervisor[Any, Any]]]:
    """Remove in the end what workers left that were killed, of supervisors that were put into the list."""
    known: list[Supervisor[Any, Any]] = []
    try:
        yield known
    finally:
        if any(supervisor.replaced or supervisor.overtaken for supervisor in known):
            remove_leftovers(folder.path)


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

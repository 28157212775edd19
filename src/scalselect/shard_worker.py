"""A model at work on the shards of a run, in whatever process an engine puts it: in this one, or in many.

Of several processes that share a run folder each claims the shard that it is at; what somebody else is at, or has
published, is told and not done again.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from threadpoolctl import threadpool_limits

from scalselect.claims import Claim
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.engines.crew import Retaken
from scalselect.errors import WorkError
from scalselect.joined_work import JoinedWork
from scalselect.represent_keys import commit_of
from scalselect.shard_work import ShardWork
from scalselect.vlm.checkpoint import load_checkpoint, model_restored, quiet_transformers, set_to_work
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.settings import Settings, library_versions, locate, resolve_settings, torch_threads, use_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.representation_store import ShardReport
    from scalselect.run_folder import RunFolder
    from scalselect.segments import Segment
    from scalselect.vlm.checkpoint import Checkpoint

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # on the storage that all machines share


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a run must know of its model, wherever that was loaded; can be pickled.

    Attributes
    ----------
    fingerprint, warnings, remote_code, parameter_bytes
        See `scalselect.vlm.checkpoint.Checkpoint`.
    commit
        Of a hub's repository; None for a folder or a loaded model.
    """

    settings: Settings
    fingerprint: dict[str, str]
    warnings: list[str]
    remote_code: str | None
    parameter_bytes: int
    commit: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A shard that is published: by this call, or `adopted` from another process."""

    report: ShardReport
    adopted: bool


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A shard that another process is at, named in words."""

    holder: str


class ModelOfRun:
    """The model of a run, loaded when it is first needed and kept for what comes later in the call.

    Parameters
    ----------
    model
        Folder or hub name of a checkpoint, or a loaded model (then with its `processor`).
    recorded
        The content of run.json, of a run that exists.
    cpus
        CPUs that this process may use of its machine; None: all that there are.

    Raises
    ------
    MisuseError
        If the model, or an option for it, cannot be used.
    """

    def __init__(
        self,
        model: Any,
        config: RepresentConfig,
        recorded: dict[str, Any] | None,
        *,
        processor: Any = None,
        cpus: int | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self._processor = processor
        self._checkpoint: Checkpoint | None = None
        with quiet_transformers():
            self._located = locate(model, config, commit=commit_of(recorded, model, config))
            before = None if recorded is None else recorded["represent"]
            self.settings = resolve_settings(config, self._located, before, cpus=cpus)

    @contextmanager
    def at_work(self) -> Iterator[Checkpoint]:
        """Use the checkpoint during the block, with the threads of the run. Raises MisuseError."""
        threads = self.settings.threads
        with (
            quiet_transformers(),
            model_restored(self.model),
            threadpool_limits(limits=threads),
            torch_threads(threads),
            use_device(self.settings.device),
        ):
            if self._checkpoint is None:
                loaded = load_checkpoint(self._located, self.config, self.settings, processor=self._processor)
                self._checkpoint = rehearse(loaded, self.config)
            else:
                set_to_work(self.model)
            yield self._checkpoint

    @property
    def facts(self) -> ModelFacts:
        """What the run must know of the model. Raises RuntimeError before it was at work."""
        if self._checkpoint is None:
            raise RuntimeError("the model has not been loaded yet")
        return ModelFacts(
            settings=self.settings,
            fingerprint=self._checkpoint.fingerprint,
            warnings=self._checkpoint.warnings,
            remote_code=self._checkpoint.remote_code,
            parameter_bytes=self._checkpoint.parameter_bytes,
            commit=getattr(self._located, "commit", None),
        )


class ShardWorker:
    """Represents shards of a run in this process.

    Parameters
    ----------
    on_row
        Called after every finished row with its status.
    """

    def __init__(
        self, folder: RunFolder, model: ModelOfRun, *, on_row: Callable[[str], None] = lambda _status: None
    ) -> None:
        self._folder = folder
        self._on_row = on_row
        self._resources = ExitStack()
        self._work: ShardWork | JoinedWork | None = None
        self._settings, self._config = model.settings, model.config
        self._checkpoint = self._resources.enter_context(model.at_work())

    def open(self, named: Sequence[tuple[Segment, Pool]]) -> None:
        """Take on the shards of some segments, with their data."""
        works = tuple(self._work_on(segment, pool) for segment, pool in named)
        self._work = works[0] if len(works) == 1 else JoinedWork(works)
        self._resources.callback(self._work.close)

    def __call__(self, task: int | Retaken) -> Finished | Elsewhere:
        """Represent and publish a shard, unless that is done or being done elsewhere.

        Raises
        ------
        ShardError
            If a single sample does not fit into the memory.
        """
        if self._work is None:
            raise RuntimeError("no data were opened")
        shard = task.task if isinstance(task, Retaken) else task
        store, claims, claimed = self._folder.store, self._folder.claims, f"shard-{shard:07d}"
        if isinstance(task, Retaken):  # its first worker is dead or hangs, and may hold the claim still
            adopted = store.is_published(shard)
            report = store.report(shard) if adopted else self._work(shard)
            claims.remove(claimed)
            return Finished(report, adopted=adopted)
        if store.is_published(shard):
            return Finished(store.report(shard), adopted=True)
        claim = claims.take(claimed)
        if not isinstance(claim, Claim):
            return Elsewhere(claim.words)
        with claim:
            return Finished(self._work(shard), adopted=False)

    def close(self) -> None:
        """End the processes that make samples ready, and give a loaded model back as it was."""
        self._resources.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _work_on(self, segment: Segment, pool: Pool) -> ShardWork:
        placed = JoinedPool([pool], first_row=segment.first_row) if segment.first_row else pool
        return ShardWork(
            placed,
            self._checkpoint,
            self._folder.store,
            self._config,
            self._settings,
            library_versions(),
            on_row=self._on_row,
            order=placed.in_image_order() if self._config.order == "image" else None,
            first_row=segment.first_row,
            first_shard=segment.first_shard,
        )


def config_on(config: RepresentConfig, device: str) -> RepresentConfig:
    """Return the options of a worker whose device an engine has chosen."""
    return replace(config, device=device)


@contextmanager
def trouble_of_one_machine() -> Iterator[None]:
    """Let an OSError, which ends a run on one machine, be a WorkError: at another of many, another attempt may do."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        raise WorkError(f"{type(error).__name__}: {error}") from error

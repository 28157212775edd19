"""Several processes that do the parts of a scoring: workers of an engine, or the processes of a launcher."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from scalselect.claimed_tasks import claimed_tasks
from scalselect.engines.crew import Retaken
from scalselect.engines.retrying import Retrying
from scalselect.engines.torchrun_engine import own_then_others
from scalselect.errors import DamagedFileError, DataChangedError, MisuseError, WorkError
from scalselect.local_copies import remove_local_copies
from scalselect.run_folder import RunFolder
from scalselect.score_parts import ScoreParts
from scalselect.segments import shards_of
from scalselect.worker_logs import worker_log
from scalselect.worker_place import look_from_worker, place_of, supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scalselect.config import ScoreConfig
    from scalselect.engine_options import EngineConfig
    from scalselect.engines.supervision import Supervisor
    from scalselect.engines.torchrun_engine import Rank
    from scalselect.progress import Progress
    from scalselect.score_parts import Step

_log = logging.getLogger(__name__)
_RETRYING = Retrying(fatal=(MisuseError, DataChangedError, DamagedFileError))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCrew:
    """Workers that do the parts of one scoring and leave them as files."""

    parts: ScoreParts
    supervisor: Supervisor[tuple[Step, int], None]

    def publish(self, step: Step) -> None:
        """Have every part of a step done.

        Raises
        ------
        WorkError
            If a part failed, after its attempts.
        """
        tasks = ((step, part) for part in range(len(self.parts)) if not self.parts.is_published(step, part))
        for outcome in self.supervisor.results(tasks):
            if outcome.error is not None:
                raise WorkError(
                    f"part {outcome.task[1]} of the scoring failed after {outcome.attempts} attempts: {outcome.error}"
                ) from outcome.error


@contextmanager
def score_crew(
    parts: ScoreParts,
    folder: RunFolder,
    config: ScoreConfig,
    *,
    inputs: dict[str, Any],
    engine: EngineConfig,
    progress: Progress,
) -> Iterator[ScoreCrew | None]:
    """Yield workers for a scoring; None where this process does it alone: it is told so, or there is one part only.

    Raises
    ------
    OptionError
        If there are no such workers; see `scalselect.worker_place.supervised`.
    """
    place = place_of(engine)
    if not place.is_elsewhere or len(parts) == 1:
        yield None
        return
    threads = int(folder.require()["represent"]["threads"])
    location = folder.path.absolute()
    job = ScoreJob(run_dir=str(location), config=config, inputs=inputs, threads=threads)
    with (
        look_from_worker(folder, []) as look,
        supervised(
            place,
            job,
            _RETRYING,
            look=look,
            device="cpu",
            threads=threads,
            progress=progress,
            name=lambda task: f"part {task[1]}",
            most=len(parts),
        ) as (supervisor, workers),
    ):
        progress.say(f"{len(parts)} parts are scored by {workers} worker{'' if workers == 1 else 's'}")
        yield ScoreCrew(parts, supervisor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """What a worker is told to do parts of a scoring. Can be pickled."""

    run_dir: str
    config: ScoreConfig
    inputs: dict[str, Any]
    threads: int
    devices: tuple[str, ...] = ()
    cpus: int | None = None
    keeps_descriptors: bool = False

    def __call__(self, worker: int) -> tuple[Callable[[Any], None], None]:
        """Begin in a worker."""
        return _PartsElsewhere(self, worker), None


class _PartsElsewhere:
    """Does parts of a scoring in a worker process."""

    def __init__(self, job: ScoreJob, number: int) -> None:
        self._resources = ExitStack()
        folder = RunFolder(job.run_dir)
        self._resources.enter_context(worker_log(folder.logs, number, redirect_descriptors=not job.keeps_descriptors))
        # The number of threads decides the last digits of sums, so it is the recorded one, whatever engines set.
        self._resources.enter_context(threadpool_limits(limits=job.threads))
        self._parts = ScoreParts(folder, shards_of(folder.require()), job.config, job.inputs)

    def __call__(self, task: tuple[Step, int] | Retaken) -> None:
        """Do a part and leave it as a file."""
        step, part = task.task if isinstance(task, Retaken) else task
        began = time.perf_counter()
        self._parts.publish(step, part)
        _log.info("part %d of the %s: %.1f s", part, step.replace("_", " "), time.perf_counter() - began)

    def close(self) -> None:
        """End the log; leave no temporary folder behind."""
        self._resources.close()
        remove_local_copies()


def share_parts(parts: ScoreParts, step: Step, folder: RunFolder, rank: Rank, is_over: Callable[[], bool]) -> None:
    """Do parts of a step together with the other processes of a launcher, until all are there, whoever did them.

    Parameters
    ----------
    is_over
        Tells whether the scores were written meanwhile, and parts removed.
    """

    def missing(some: Iterable[int]) -> set[int]:
        return {part for part in some if not parts.is_published(step, part)}

    def is_done(part: int) -> bool:
        return parts.is_published(step, part) or is_over()

    own_first = own_then_others(rank, range(len(parts)), missing)
    for part in claimed_tasks(own_first, is_done, folder.claims, lambda part: f"{step}-{part:05d}"):
        try:
            parts.publish(step, part)
        except FileNotFoundError:  # of the subspaces, where somebody has just written the scores and removed them
            if not is_over():
                raise

"""Where the work of a call runs: settled from options, launcher and machine, before anything else is done."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scalselect.engines.processes import usable_cpus
from scalselect.engines.supervision import Supervisor
from scalselect.engines.torchrun_engine import Rank, rank_of_environment
from scalselect.engines.worker_processes import LocalCrew
from scalselect.errors import OptionError
from scalselect.process_mark import new_mark
from scalselect.remote_path import as_remote, path_of
from scalselect.run_folder_place import TRIAL
from scalselect.storage import temporary_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.engine_options import EngineConfig
    from scalselect.engines.crew import Crew
    from scalselect.engines.retrying import Retrying
    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder
    from scalselect.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where the work of a call runs.

    Attributes
    ----------
    rank
        Which of a launcher's processes this one is; None where it is alone.
    devices
        Of worker processes on this machine, one each; none where there are no such.
    named
        Whether the call named these devices, so that each is to have a worker whatever there is to do.
    here
        Device of this process, where that is not what the options say.
    ray, ray_address, workers
        Whether workers are those of a Ray cluster, which one, and how many; None: as many as it has room for.
    """

    rank: Rank | None = None
    devices: tuple[str, ...] = ()
    here: str | None = None
    named: bool = False
    ray: bool = False
    ray_address: str | None = None
    workers: int | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether other processes do the work."""
        return self.ray or bool(self.devices)

    @property
    def shares_files(self) -> bool:
        """Whether workers can read what is open in this process: they run on the same machine."""
        return bool(self.devices)

    @property
    def cpus_here(self) -> int | None:
        """CPUs that are for one process of this machine; None: all."""
        sharing = self.rank.local_world if self.rank is not None else len(self.devices)
        return max(1, usable_cpus() // sharing) if sharing > 1 else None

    def config_here(self, config: RepresentConfig) -> RepresentConfig:
        """Return the options of this process."""
        return config if self.here is None else replace(config, device=self.here)


def place_of(engine: EngineConfig, config: RepresentConfig | None = None, *, is_loaded: bool = False) -> WorkerPlace:
    """Settle where the work of a call runs.

    Parameters
    ----------
    config
        Options of stage 1; None where no model is needed, and with it no accelerator.
    is_loaded
        Whether the model is an object of this process, which no other one can have.

    Raises
    ------
    OptionError
        If options contradict one another, or there are no such devices.
    """
    rank = rank_of_environment()
    asked = engine.names_workers
    if rank is not None:
        if asked is not None:
            raise OptionError(f"{asked} has no effect in {rank}: each of them is a worker; leave it out")
        return WorkerPlace(rank=rank, here=None if config is None or is_loaded else _device_of(rank, config))
    if is_loaded:
        if asked is not None:
            raise OptionError(
                f"{asked} needs a model that workers can load: a folder or a hub name, not an object of this process"
            )
        return WorkerPlace()
    if engine.engine == "ray":
        if config is not None and ":" in config.device:
            raise OptionError(
                f"device names one accelerator, and a cluster chooses which a worker gets: {config.device}; give auto, "
                "cuda or cpu"
            )
        return WorkerPlace(ray=True, ray_address=engine.ray_address, workers=engine.workers)
    devices = _devices(engine, config)
    if len(devices) > 1:
        return WorkerPlace(devices=tuple(devices), here=devices[0], named=engine.devices is not None)
    return WorkerPlace(here=devices[0] if devices else None)


def scoring_engine(engine: EngineConfig, workers: int) -> EngineConfig:
    """Return who scores after so many workers of an engine have represented: as many, whatever devices they had."""
    if engine.engine == "ray" or workers == 1 or rank_of_environment() is not None:
        return engine
    return replace(engine, workers=workers, devices=None)


def _device_of(rank: Rank, config: RepresentConfig) -> str | None:
    """Return the accelerator of one of a launcher's processes; None: what the options say."""
    if config.device not in {"auto", "cuda"}:
        return None
    visible = _visible()
    return visible[rank.local % len(visible)] if len(visible) > 1 else None


def _devices(engine: EngineConfig, config: RepresentConfig | None) -> list[str]:
    """Return the devices of workers on this machine, one each; none where the options say it all."""
    if config is None:
        return ["cpu"] * (engine.workers or 0)
    if engine.devices is not None:
        if config.device != "auto":
            raise OptionError(f"device and devices exclude each other: {config.device} and {engine.devices}")
        return engine.device_names
    if config.device not in {"auto", "cuda"}:
        return _on_one_device(engine.workers or 0, config.device)
    visible = _visible() if config.device == "auto" or engine.workers else []
    if engine.workers is None:
        return visible if len(visible) > 1 else []
    if not visible and config.device == "auto":
        return ["cpu"] * engine.workers
    if not visible:
        raise OptionError("device cannot be used here: cuda (no accelerator is visible); `cpu` always can")
    if engine.workers > len(visible):
        raise OptionError(
            f"workers are more than the accelerators there are: {engine.workers} of {len(visible)}; give fewer, name "
            "devices that workers are to share (devices 0,0), or device `cpu`"
        )
    return visible[: engine.workers]


def _on_one_device(workers: int, device: str) -> list[str]:
    if workers > 1 and not device.startswith("cpu"):
        raise OptionError(
            f"device names one accelerator, and {workers} workers were asked for: {device}; name them all with devices"
        )
    return [device] * workers


def _visible() -> list[str]:
    from scalselect.vlm.settings import visible_accelerators  # noqa: PLC0415  torch takes seconds

    return visible_accelerators()


@contextmanager
def supervised(
    place: WorkerPlace,
    job: Any,
    retrying: Retrying,
    *,
    look: Callable[[], str | None],
    device: str,
    threads: int | None,
    progress: Progress,
    name: Callable[[Any], str],
    most: int,
    overtaking: bool = True,
) -> Iterator[tuple[Supervisor[Any, Any], int]]:
    """Yield workers that do what a job says, and their number; they end with the block.

    Parameters
    ----------
    job
        A frozen dataclass that is called in every worker (see `scalselect.engines.crew.Begin`), with fields `devices`,
        `cpus` and `keeps_descriptors`, which are filled in here.
    look
        Asked on every machine where workers are to run: what is wrong there in words, or None.
    device
        Of workers of a cluster, as the options have it; `auto`: an accelerator each where the cluster has some.
    threads
        CPU threads of a worker; None: its share of the machine.
    name, overtaking
        See `Supervisor`.
    most
        Number of tasks that there are at most: more workers would have nothing to do.

    Raises
    ------
    OptionError
        If there is no such cluster, or a machine of it cannot do the work.
    WorkError
        If no worker could be started.
    """

    def supervisor(crew: Crew, workers: int) -> Supervisor[Any, Any]:
        return Supervisor(crew, workers, retrying=retrying, overtaking=overtaking, say=progress.say, name=name)

    if not place.ray:
        if not place.named:
            place = replace(place, devices=place.devices[: max(1, most)])
        job = replace(job, devices=place.devices, cpus=place.cpus_here)
        with supervisor(LocalCrew(job), len(place.devices)) as found:
            yield found, len(place.devices)
        return
    from scalselect.engines.ray_engine import ray_cluster  # noqa: PLC0415  it may not be installed

    with ray_cluster(place.ray_address, say=progress.say) as cluster:
        on_gpus = cluster.gpus > 0 if device == "auto" else not device.startswith("cpu")
        gpus = float(on_gpus)
        each = threads or (max(1, int(cluster.cpus // cluster.gpus)) if on_gpus and cluster.gpus else 1)
        workers = max(1, min(place.workers or cluster.default_workers(each, gpus), most))
        cluster.check(look, workers, each, gpus)
        job = replace(job, devices=("cuda" if on_gpus else "cpu",), cpus=each, keeps_descriptors=True)
        progress.say(
            f"Ray cluster at {cluster.address}: nodes {cluster.nodes}, CPUs {cluster.cpus:g}, GPUs {cluster.gpus:g}; "
            f"workers {workers}, CPUs each {each}"
        )
        with supervisor(cluster.crew(job, cpus=each, gpus=gpus), workers) as found:
            yield found, workers


@dataclass(frozen=True, slots=True)
class Look:
    """Looks from another machine whether the run folder and the data are there; can be pickled."""

    trial: str
    folder: str
    data: tuple[str, ...] = field(default=())

    def __call__(self) -> str | None:
        """Return in words what is not there; None where all is."""
        if not path_of(self.trial).exists():
            return (
                f"the run folder is not the one seen from here: {self.folder}; it must lie on storage that all "
                "machines share, or in a bucket (s3://, gs://)"
            )
        for place in self.data:
            here = path_of(place)
            if as_remote(here) is None and not here.exists():
                return f"the data are not there: {place}; they must lie on storage that all machines share"
        return None


@contextmanager
def look_from_worker(folder: RunFolder, segments: Sequence[Segment]) -> Iterator[Look]:
    """Yield what looks from another machine whether the run folder and the data are there."""
    data = [place for segment in segments for place in (segment.path, segment.images) if place]
    remote = as_remote(folder.path)
    if remote is not None:
        trial = remote / f"{TRIAL}{new_mark()}"
        trial.upload(b"")
        try:
            yield Look(str(trial), str(folder.path), tuple(data))
        finally:
            trial.unlink(missing_ok=True)
        return
    path = folder.path.absolute()
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    mark = temporary_beside(path / "look")
    mark.touch()
    try:
        yield Look(str(mark), str(path), tuple(data))
    finally:
        mark.unlink(missing_ok=True)
        if made and not any(path.iterdir()):
            path.rmdir()

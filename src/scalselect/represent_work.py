"""Stage 1 over a run folder: settle what the run is, then represent the shards that are missing.

The only join that loads a model; `pipeline` imports it when it is needed, so that the other commands start fast.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from scalselect.account_checks import check_reports
from scalselect.damaged_shards import set_aside_damaged
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.errors import DatasetError, TooManySkippedError
from scalselect.image_checks import check_images
from scalselect.joined_work import JoinedWork
from scalselect.leftovers import remove_leftovers
from scalselect.missing_shards import represent_missing
from scalselect.progress import say_removed
from scalselect.represent_keys import commit_of, data_keys, new_run_json, option_keys
from scalselect.run_json import refuse_other_keys
from scalselect.segments import Segment, next_segment
from scalselect.shard_work import ShardWork
from scalselect.temporary_places import removed_places
from scalselect.trainers import preset_lines
from scalselect.vlm.checkpoint import load_checkpoint, model_restored, quiet_transformers, set_to_work
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.settings import Settings, library_versions, locate, resolve_settings, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.config import RepresentConfig, RunConfig
    from scalselect.dataset.pool import Pool
    from scalselect.extend_work import Extension
    from scalselect.progress import Progress
    from scalselect.representation_store import ShardReport
    from scalselect.run_folder import RunFolder
    from scalselect.vlm.checkpoint import Checkpoint

_NOT_COMPARED = "model and chat template were not compared"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelOfRun:
    """The checkpoint that a call has loaded and held against the run, at hand for what comes later in the call.

    Attributes
    ----------
    model
        What the caller gave: a path, a name, or a loaded model.
    config, settings
        What the checkpoint was loaded with.
    """

    model: Any
    config: RepresentConfig
    settings: Settings
    checkpoint: Checkpoint

    @contextmanager
    def at_work(self) -> Iterator[Checkpoint]:
        """Use the checkpoint during the block, as when the rows were represented."""
        with _around_model(self.model, self.settings):
            set_to_work(self.model)
            yield self.checkpoint


def represent_run(
    folder: RunFolder, pools: Sequence[Pool], model: Any, config: RunConfig, *, processor: Any, progress: Progress
) -> tuple[list[ShardReport], ModelOfRun]:
    """Represent every shard of a run that is not published yet; return the reports of all shards, in order.

    Beside them the model that was loaded for it.

    Parameters
    ----------
    pools
        The data sets, in order; their rows follow one another. Of a run that was extended these are the ones that it
        began with.

    Raises
    ------
    MisuseError
        Before any work: the run folder belongs to another run, the model cannot be used.
    TooManySkippedError
        If more rows were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    recorded = folder.read()
    before = None if recorded is None else recorded["represent"]
    located, settings = _located(model, config.represent, recorded)
    segments = _segments(pools, config.represent)
    keys = option_keys(config.represent, settings) | data_keys(pools, segments)
    if before is not None:  # before the model is loaded, which may take long
        known = {name: before.get(name) for name in keys}
        refuse_other_keys(known, keys, folder.path, note=_NOT_COMPARED)
        set_aside_damaged(folder, segments, progress)
        known_rows = list(zip(segments, pools, strict=True))
        check_images(folder.store, known_rows, progress, every=config.represent.verify_images)
    else:
        for pool in pools:
            _refuse_where_no_image_exists(pool)
    loading = _model_at_work(located, model, config.represent, settings, processor=processor, progress=progress)
    with loading as checkpoint:
        keys |= {f"model_{name}": value for name, value in checkpoint.fingerprint.items()}
        if before is None:
            folder.create(
                new_run_json(segments, model, config, keys)
                | {"model_commit": getattr(located, "commit", None), "remote_code": checkpoint.remote_code}
            )
        else:
            refuse_other_keys(before, keys, folder.path)
        say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
        _say_model(checkpoint, config.represent, settings, progress)
        works = tuple(
            _work_on(segment, pool, folder, checkpoint, config=config.represent, settings=settings, progress=progress)
            for segment, pool in zip(segments, pools, strict=True)
        )
        with closing(works[0] if len(works) == 1 else JoinedWork(works)) as work:
            shards = range(segments[-1].shards.stop)
            reports = represent_missing(work, shards, config.max_skipped, progress, folder.claims)
        check_reports(reports, range(segments[-1].stop_row))
        used = ModelOfRun(model=model, config=config.represent, settings=settings, checkpoint=checkpoint)
        return reports, used


def represent_segments(
    folder: RunFolder,
    extension: Extension,
    opened: Sequence[tuple[Segment, Pool]],
    model: Any,
    config: RunConfig,
    *,
    processor: Any,
    progress: Progress,
    on_wait: Callable[[str], None],
) -> tuple[list[ShardReport], ModelOfRun]:
    """Record the new segments of a run and represent those of their shards that are missing; return their reports.

    Beside them the model that was loaded for it.

    Parameters
    ----------
    opened
        The segments whose images are looked at, with their data.
    config
        The options that the run recorded; see `scalselect.extend_work.recorded_config`.
    on_wait
        Called before waiting for somebody who scores or selects in the folder.

    Raises
    ------
    MisuseError
        Before any work: model, versions or options are not those of the run.
    TooManySkippedError
        If more rows of a segment were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    recorded = folder.require()
    before = recorded["represent"]
    located, settings = _located(model, config.represent, recorded)
    keys = option_keys(config.represent, settings)
    del keys["images"], keys["limit"]  # those of the data set that the run began with
    refuse_other_keys({name: before.get(name) for name in keys}, keys, folder.path, note=_NOT_COMPARED)
    set_aside_damaged(folder, [segment for segment, _ in extension.named], progress)
    check_images(folder.store, opened, progress, every=config.represent.verify_images)
    for segment, pool in extension.named:
        if segment not in extension.before:
            _refuse_where_no_image_exists(pool)
    loading = _model_at_work(located, model, config.represent, settings, processor=processor, progress=progress)
    with loading as checkpoint:
        keys |= {f"model_{name}": value for name, value in checkpoint.fingerprint.items()}
        names = {*keys, *(name for name in before if name.startswith("model_"))}
        refuse_other_keys({name: before.get(name) for name in names}, keys, folder.path)
        extension.record(folder, on_wait)
        say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
        _say_model(checkpoint, config.represent, settings, progress)
        reports = []
        for segment, pool in extension.named:
            work = _work_on(
                segment, pool, folder, checkpoint, config=config.represent, settings=settings, progress=progress
            )
            try:
                with closing(work):
                    here = represent_missing(work, segment.shards, config.max_skipped, progress, folder.claims)
                check_reports(here, range(segment.first_row, segment.stop_row))
                reports += here
            except TooManySkippedError as error:
                if not extension.undo(folder, on_wait):
                    raise
                told = str(error).partition(" All are told in")[0]  # in files that are gone
                raise TooManySkippedError(
                    f"{told} The run is as it was before this call: mend the data, or repeat the command with a higher "
                    "--max-skipped"
                ) from error
        used = ModelOfRun(model=model, config=config.represent, settings=settings, checkpoint=checkpoint)
        return reports, used


def _segments(pools: Sequence[Pool], config: RepresentConfig) -> list[Segment]:
    segments: list[Segment] = []
    for pool in pools:
        before = segments[-1] if segments else None
        segments.append(next_segment(before, shard_size=config.shard_size, **pool.facts()))
    return segments


def _work_on(
    segment: Segment,
    pool: Pool,
    folder: RunFolder,
    checkpoint: Checkpoint,
    *,
    config: RepresentConfig,
    settings: Settings,
    progress: Progress,
) -> ShardWork:
    placed = JoinedPool([pool], first_row=segment.first_row) if segment.first_row else pool
    return ShardWork(
        placed,
        checkpoint,
        folder.store,
        config,
        settings,
        library_versions(),
        on_row=progress.row,
        order=placed.in_image_order() if config.order == "image" else None,
        first_row=segment.first_row,
        first_shard=segment.first_shard,
    )


def _located(model: Any, config: RepresentConfig, recorded: dict[str, Any] | None) -> tuple[Any, Settings]:
    before = None if recorded is None else recorded["represent"]
    with quiet_transformers():
        located = locate(model, config, commit=commit_of(recorded, model, config))
        return located, resolve_settings(config, located, before)


@contextmanager
def _model_at_work(
    located: Any, model: Any, config: RepresentConfig, settings: Settings, *, processor: Any, progress: Progress
) -> Iterator[Checkpoint]:
    with _around_model(model, settings):
        checkpoint = load_checkpoint(located, config, settings, processor=processor)
        for warning in checkpoint.warnings:
            progress.warn(warning)
        yield rehearse(checkpoint, config)


@contextmanager
def _around_model(model: Any, settings: Settings) -> Iterator[None]:
    threads = settings.threads
    with quiet_transformers(), model_restored(model), threadpool_limits(limits=threads), torch_threads(threads):
        yield


def _say_model(checkpoint: Checkpoint, config: RepresentConfig, settings: Settings, progress: Progress) -> None:
    if config.like is not None:
        for line in preset_lines(config.like, asdict(config) | {"image_fit": settings.image_fit}):
            progress.say(line)
    progress.say(
        f"model: {checkpoint.parameter_bytes / 1e6:,.0f} MB of parameters up to decoder layer {config.layer}, "
        f"{settings.dtype} on {settings.device}"
    )


def _refuse_where_no_image_exists(pool: Pool) -> None:
    missing, looked_at = pool.images_found()
    if missing is not None:
        raise DatasetError(
            f"none of the first {looked_at} images of {pool.source} exists; the first is looked for at "
            f"{missing} (give the folder that image paths start from with --images)"
        )

"""Stage 1 over a run folder: settle what the run is, then represent the shards that are missing.

With `explain_work` the only join that needs a model; `pipeline` imports both when they are needed, so that the other
commands start fast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scalselect.damaged_shards import set_aside_damaged
from scalselect.errors import DatasetError, RunFolderError, TooManySkippedError
from scalselect.image_checks import check_images
from scalselect.leftovers import remove_leftovers
from scalselect.missing_shards import represent_missing
from scalselect.progress import say_removed
from scalselect.represent_keys import data_keys, new_run_json, option_keys
from scalselect.run_json import refuse_other_keys
from scalselect.segments import Segment, next_segment
from scalselect.shard_worker import ModelOfRun, config_on
from scalselect.temporary_places import removed_places
from scalselect.trainers import preset_lines
from scalselect.vlm.settings import is_loaded
from scalselect.worker_place import place_of
from scalselect.workforce import workforce

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalselect.config import RepresentConfig, RunConfig
    from scalselect.dataset.pool import Pool
    from scalselect.extend_work import Extension
    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder
    from scalselect.shard_totals import ShardTotals
    from scalselect.shard_worker import ModelFacts
    from scalselect.worker_place import WorkerPlace

_NOT_COMPARED = "model and chat template were not compared"


@dataclass(frozen=True, slots=True, eq=False)
class RepresentedShards:
    """What became of shards in a call.

    Attributes
    ----------
    totals
        Of all shards, or of those of each segment that was named.
    model
        For what comes later in the call.
    workers
        How many worked at once.
    """

    totals: list[ShardTotals]
    model: ModelOfRun
    workers: int


def represent_run(
    folder: RunFolder, pools: Sequence[Pool], model: Any, config: RunConfig, *, processor: Any, progress: Progress
) -> RepresentedShards:
    """Represent every shard of a run that is not published yet; return what became of all shards.

    Parameters
    ----------
    pools
        The data sets, in order; their rows follow one another. Of a run that was extended these are the ones that it
        began with.

    Raises
    ------
    MisuseError
        Before any work: the run folder belongs to another run, the model cannot be used, or no worker can work.
    TooManySkippedError
        If more rows were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    place = place_of(config.engine, config.represent, is_loaded=is_loaded(model))
    recorded = folder.read()
    segments = _segments(pools, config.represent)
    data = data_keys(pools, segments)
    known = list(zip(segments, pools, strict=True))
    if recorded is not None:  # before the model is loaded, which may take long
        keys = _keys_before_loading(place, model, config.represent, recorded, processor) | data
        before = recorded["represent"]
        refuse_other_keys({name: before.get(name) for name in keys}, keys, folder.path, note=_NOT_COMPARED)
        set_aside_damaged(folder, segments, progress, **_looked_at(place))
        check_images(folder.store, known, progress, every=config.represent.verify_images)
    else:
        for pool in pools:
            _refuse_where_no_image_exists(pool)
    with workforce(
        place, folder, model, config.represent, known, recorded=recorded, processor=processor, progress=progress
    ) as force:
        facts = force.facts
        keys = option_keys(config.represent, facts.settings) | data | _model_keys(facts)
        if recorded is not None:
            refuse_other_keys(recorded["represent"], keys, folder.path)
            raced = False
        else:
            raced = _lost_the_race(folder, segments, model, config, keys=keys, facts=facts)
        if not raced:
            say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
            _say_model(facts, config.represent, progress)
            force.open(known)
            totals = represent_missing(force, folder, segments, config.max_skipped, progress)
            used = force.model_of(folder, model, config.represent, processor)
            return RepresentedShards([totals], used, force.number)
    # Somebody else began the run a moment ago, on a machine where `auto` stands for something else: theirs holds.
    return represent_run(folder, pools, model, config, processor=processor, progress=progress)


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
) -> RepresentedShards:
    """Record the new segments of a run and represent those of their shards that are missing; return what became of it.

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
        Before any work: model, versions or options are not those of the run, or no worker can work.
    TooManySkippedError
        If more rows of a segment were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    place = place_of(config.engine, config.represent, is_loaded=is_loaded(model))
    recorded = folder.require()
    before = recorded["represent"]
    keys = _keys_before_loading(place, model, config.represent, recorded, processor)
    del keys["images"], keys["limit"]  # those of the data set that the run began with
    refuse_other_keys({name: before.get(name) for name in keys}, keys, folder.path, note=_NOT_COMPARED)
    set_aside_damaged(folder, [segment for segment, _ in extension.named], progress, **_looked_at(place))
    check_images(folder.store, opened, progress, every=config.represent.verify_images)
    for segment, pool in extension.named:
        if segment not in extension.before:
            _refuse_where_no_image_exists(pool)
    with workforce(
        place,
        folder,
        model,
        config.represent,
        extension.named,
        recorded=recorded,
        processor=processor,
        progress=progress,
    ) as force:
        keys |= _model_keys(force.facts)
        names = {*keys, *(name for name in before if name.startswith("model_"))}
        refuse_other_keys({name: before.get(name) for name in names}, keys, folder.path)
        extension.record(folder, on_wait)
        say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
        _say_model(force.facts, config.represent, progress)
        force.open(extension.named)
        totals = []
        for segment, _ in extension.named:
            try:
                totals.append(represent_missing(force, folder, [segment], config.max_skipped, progress))
            except TooManySkippedError as error:
                if not extension.undo(folder, on_wait):
                    raise
                told = str(error).partition(" All are told in")[0]  # in files that are gone
                raise TooManySkippedError(
                    f"{told} The run is as it was before this call: mend the data, or repeat the command with a higher "
                    "--max-skipped"
                ) from error
        used = force.model_of(folder, model, config.represent, processor)
        return RepresentedShards(totals, used, force.number)


def _segments(pools: Sequence[Pool], config: RepresentConfig) -> list[Segment]:
    segments: list[Segment] = []
    for pool in pools:
        before = segments[-1] if segments else None
        segments.append(next_segment(before, shard_size=config.shard_size, **pool.facts()))
    return segments


def _keys_before_loading(
    place: WorkerPlace, model: Any, config: RepresentConfig, recorded: dict[str, Any], processor: Any
) -> dict[str, Any]:
    """Return the keys of a call that its options decide, known before the model is loaded anywhere."""
    # A process that only looks after workers elsewhere may lack what they have; the run has recorded what `auto` is.
    here = config_on(config, "cpu") if place.ray else place.config_here(config)
    return option_keys(config, ModelOfRun(model, here, recorded, processor=processor).settings)


def _model_keys(facts: ModelFacts) -> dict[str, str]:
    return {f"model_{name}": value for name, value in facts.fingerprint.items()}


def _looked_at(place: WorkerPlace) -> dict[str, Any]:
    """Return which shards a process looks at, and how closely: of a launcher's processes each at its own."""
    rank = place.rank
    if place.ray:  # too much for one machine to read; every file is held against its hash when it is scored
        return {"contents": False}
    if rank is None:
        return {}
    return {"shards": lambda shard: shard % rank.world == rank.number}


def _lost_the_race(
    folder: RunFolder,
    segments: Sequence[Segment],
    model: Any,
    config: RunConfig,
    *,
    keys: dict[str, Any],
    facts: ModelFacts,
) -> bool:
    """Record a new run; tell whether somebody else has just done so with other values of `auto`."""
    content = new_run_json(segments, model, config, keys)
    try:
        folder.create(content | {"model_commit": facts.commit, "remote_code": facts.remote_code})
    except RunFolderError:
        if folder.read() is None:  # it could not be written
            raise
        return True
    return False


def _say_model(facts: ModelFacts, config: RepresentConfig, progress: Progress) -> None:
    settings = facts.settings
    for warning in facts.warnings:
        progress.warn(warning)
    if config.like is not None:
        for line in preset_lines(config.like, asdict(config) | {"image_fit": settings.image_fit}):
            progress.say(line)
    progress.say(
        f"model: {facts.parameter_bytes / 1e6:,.0f} MB of parameters up to decoder layer {config.layer}, "
        f"{settings.dtype} on {settings.device}"
    )


def _refuse_where_no_image_exists(pool: Pool) -> None:
    missing, looked_at = pool.images_found()
    if missing is not None:
        raise DatasetError(
            f"none of the first {looked_at} images of {pool.source} exists; the first is looked for at "
            f"{missing} (give the folder that image paths start from with --images)"
        )

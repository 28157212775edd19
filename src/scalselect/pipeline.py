"""The Python API: represent, score, select, and run, which is all three.

Each function takes a run folder as it finds it and does only what is missing.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from scalselect.choice_checks import check_choice
from scalselect.config import RunConfig, ScoreConfig, SelectConfig, score_config, select_config
from scalselect.damaged_shards import refusing_damaged, with_damage_mended
from scalselect.dataset.data_sets import open_pools
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.engine_options import EngineConfig
from scalselect.errors import OptionError, RunFolderError, did_you_mean
from scalselect.leftovers import remove_leftovers
from scalselect.option_values import parse_budgets, picked_fields
from scalselect.own_vectors_work import import_vectors
from scalselect.pool_of_run import pool_of_run
from scalselect.progress import Silent, on_wait, say_removed
from scalselect.report_work import write_report
from scalselect.results import Represented, RunResult, represented_of, result_of
from scalselect.run_folder import RunFolder
from scalselect.score_work import score_run, share_scoring
from scalselect.segments import rows_of
from scalselect.select_work import select_run
from scalselect.temporary_places import removed_places
from scalselect.worker_place import place_of, scoring_engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scalselect.dataset.pool import Pool
    from scalselect.dataset.python_dataset import DatasetLike
    from scalselect.progress import Progress
    from scalselect.records import Budget, DominantSubspace
    from scalselect.shard_worker import ModelOfRun

    Dataset = str | Path | Sequence[Mapping[str, object]] | DatasetLike | Sequence[str | Path] | Mapping[str, Any]


def run(
    dataset: Dataset,
    *,
    model: Any,
    budget: str | int | Budget | Sequence[str | int | Budget],
    output: str | Path,
    processor: Any = None,
    config_file: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> RunResult:
    """Choose the rows of a data set that are worth fine-tuning `model` on.

    Parameters
    ----------
    dataset
        Data file, folder, pattern or location, a list of records, or a `datasets.Dataset`; several as a list of files
        or a mapping of names to data, or one or more words such as ``"coco=pool.json,images=DIR"``. Their rows follow
        one another in the order given.
    model
        Folder or hub name of a checkpoint, or a loaded transformers model (then with its `processor`).
    budget
        Rows to choose: a count, or a percentage such as ``"16%"``; or several, each with a subset of its own.
    output
        The run folder. A run that was interrupted continues; one that is done changes nothing.
    config_file
        TOML file with options; those given here win.
    **options
        Fields of `scalselect.config.RepresentConfig`, `ScoreConfig` and `SelectConfig`, and `max_skipped`; those of
        `scalselect.engine_options.EngineConfig` say where the work runs.

    Raises
    ------
    MisuseError
        Before any work, and with nothing written.
    WorkError
        If work failed; what was finished is kept.
    """
    config = RunConfig.from_options({**options, "budget": budget}, config_file)
    return run_config(dataset, config, model=model, output=output, processor=processor, progress=progress)


def represent(
    dataset: Dataset,
    *,
    model: Any,
    output: str | Path,
    processor: Any = None,
    config_file: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Represented:
    """Do stage 1 alone: one vector a sample, stored in the run folder `output`. See `run` for the parameters."""
    for name in (item.name for group in (ScoreConfig, SelectConfig) for item in fields(group)):
        if name in options:
            raise OptionError(f"{name} has no effect on representing; give it to `score`, `select` or `run`")
    if "explanations" in options:
        raise OptionError("explanations has no effect on representing; give it to `run`")
    config = RunConfig.from_options(options, config_file)
    return represent_config(dataset, config, model=model, output=output, processor=processor, progress=progress)


def score(
    run_dir: str | Path | None = None,
    *,
    representations: str | Path | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> DominantSubspace:
    """Do stage 2 alone: leverage scores of all representations of a run folder. Loads no model.

    Parameters
    ----------
    run_dir
        The run folder, where a model has represented a pool.
    representations, output
        Instead of it: vectors made elsewhere, one a row, in a ``.npy``, ``.parquet`` or ``.safetensors`` file, and the
        run folder to make of them.
    **options
        Fields of `scalselect.config.ScoreConfig`; those not given are what the run used before, else the defaults.
        `engine`, `workers` and `ray_address` say who does it.
    """
    if (run_dir is None) == (representations is None) or (representations is None) != (output is None):
        raise OptionError("score needs a run folder, or `representations` with the `output` folder to make of them")
    folder = RunFolder(run_dir if output is None else output)  # type: ignore[arg-type]  # one of them is given
    recorded = folder.read() if representations is not None else folder.require()
    names = [item.name for item in fields(EngineConfig) if item.name in options]
    engine = EngineConfig(**picked_fields(EngineConfig, {name: options.pop(name) for name in names}))
    if engine.devices is not None:
        raise OptionError(f"devices has no effect on scoring, which runs on CPUs: {engine.devices!r}; give workers")
    place_of(engine)  # what contradicts the launcher is refused before any work
    config = score_config_over((recorded or {}).get("score") or {}, options)
    progress = progress or Silent()

    def attempt() -> DominantSubspace:
        if representations is not None:
            import_vectors(folder, representations, progress=progress)
        share_scoring(folder, config, progress)
        with folder.claimed(on_wait(progress)):
            say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
            return score_run(folder, config, progress, engine)

    with folder.alone():
        if representations is not None:
            return with_damage_mended(folder, attempt, progress)
        with refusing_damaged(folder, progress):
            return attempt()


def select(
    run_dir: str | Path,
    *,
    budget: str | int | Budget | Sequence[str | int | Budget],
    dataset: Dataset | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> RunResult:
    """Do stage 3 alone: choose rows of a scored run folder. Loads no model.

    Parameters
    ----------
    budget
        Rows to choose, or several such numbers, each with a subset of its own; the result is that of the first.
    dataset
        The records of a run that was given a Python list; the data file may also be named where it has moved.
    **options
        Fields of `scalselect.config.SelectConfig`, each with its default where it is not given.

    Raises
    ------
    DatasetError
        If the data are not those of the run.
    """
    folder = RunFolder(run_dir)
    _refuse_unknown(options, SelectConfig)
    config = select_config({**options, "budget": parse_budgets(budget)})
    recorded = folder.require()
    _refuse_budgets_above(config, rows_of(recorded))
    progress = progress or Silent()
    try:
        folder.read_scores()  # no scores: said before the data file is read
    except RunFolderError:
        with folder.claimed(on_wait(progress)):  # somebody may be making them
            folder.read_scores()
    pool = pool_of_run(recorded, dataset)
    with refusing_damaged(folder, progress), folder.claimed(on_wait(progress)):
        say_removed(progress, here=remove_leftovers(folder.path), temporary=removed_places())
        return result_of(folder, select_run(folder, pool, config, progress), None)


def run_config(
    dataset: Dataset,
    config: RunConfig,
    *,
    model: Any,
    output: str | Path,
    processor: Any = None,
    progress: Progress | None = None,
) -> RunResult:
    """Do all three stages with a checked configuration; see `run`."""
    if config.select is None:
        raise OptionError("a budget is needed: give a number of rows, or a percentage such as 16%")
    folder = RunFolder(output)
    progress = progress or Silent()
    choice = config.select

    def attempt() -> RunResult:
        represented, used = _represented(
            pools, records, config, folder, model=model, processor=processor, progress=progress
        )
        pool = pool_of_run(folder.require(), None, opened=pools)
        share_scoring(folder, config.score, progress)
        with folder.claimed(on_wait(progress)):
            score_run(folder, config.score, progress, scoring_engine(config.engine, represented.workers))
            summary = select_run(folder, pool, choice, progress)
            from scalselect.explain_work import explain_run  # noqa: PLC0415  as in `_represented`

            explain_run(folder, pool, used, progress)
            write_report(folder, pool, progress)
            return result_of(folder, summary, represented)

    with folder.alone():
        pools, records = _open_checked(dataset, config, folder)
        return with_damage_mended(folder, attempt, progress)


def represent_config(
    dataset: Dataset,
    config: RunConfig,
    *,
    model: Any,
    output: str | Path,
    processor: Any = None,
    progress: Progress | None = None,
) -> Represented:
    """Do stage 1 with a checked configuration; see `represent`."""
    folder = RunFolder(output)
    progress = progress or Silent()
    with folder.alone():
        pools, records = _open_checked(dataset, config, folder)
        return with_damage_mended(
            folder,
            lambda: _represented(pools, records, config, folder, model=model, processor=processor, progress=progress)[
                0
            ],
            progress,
        )


def _open_checked(dataset: Dataset, config: RunConfig, folder: RunFolder) -> tuple[list[Pool], int]:
    """Open the data of a call and refuse what the run would fail on later."""
    options = config.represent
    pools, records = open_pools(
        dataset,
        format=options.format,
        dataset_info=options.dataset_info,
        images=options.images,
        allow_remote_images=options.allow_remote_images,
        confine_images=options.confine_images,
        image_position=options.image_position,
        limit=options.limit,
    )
    recorded = folder.read()
    pool_rows = max(sum(map(len, pools)), 0 if recorded is None else rows_of(recorded))
    _refuse_budgets_above(config.select, pool_rows)
    if config.select is not None:
        check_choice(config.select, JoinedPool(pools), pool_rows=pool_rows, vectors=options.vectors)
    return pools, records


def _represented(
    pools: list[Pool],
    records: int,
    config: RunConfig,
    folder: RunFolder,
    *,
    model: Any,
    processor: Any,
    progress: Progress,
) -> tuple[Represented, ModelOfRun]:
    for pool in pools:
        name = f" {pool.source}" if len(pools) > 1 else ""
        progress.say(f"pool{name}: {pool.describe()}")
    # Imported here because torch and transformers take seconds, which the other commands need not wait.
    from scalselect.represent_work import represent_run  # noqa: PLC0415

    done = represent_run(folder, pools, model, config, processor=processor, progress=progress)
    return represented_of(folder, done.totals, records, workers=done.workers), done.model


def score_config_over(before: Mapping[str, Any], options: Mapping[str, Any]) -> ScoreConfig:
    """Return the options of scoring that a call gives, over those recorded before it. Raises OptionError."""
    _refuse_unknown(options, ScoreConfig)
    kept = dict(before)
    if "energy" in options:  # of the two only one has a say
        kept.pop("rank", None)
    elif options.get("rank", kept.get("rank")) is not None:
        kept.pop("energy", None)
    return score_config({**kept, **options})


def _refuse_unknown(options: Mapping[str, Any], group: type) -> None:
    known = [item.name for item in fields(group)]
    for name in options:
        if name not in known:
            raise OptionError(f"unknown option: `{name}`{did_you_mean(name, known)}")


def _refuse_budgets_above(config: SelectConfig | None, rows: int) -> None:
    for budget in () if config is None else config.budget:
        if budget.count is not None and budget.count > rows:
            raise OptionError(f"budget is more than the pool holds: {budget.count} of {rows} rows")

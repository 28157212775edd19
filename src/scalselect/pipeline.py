"""The Python API: represent, score, select, and run, which is all three.

Each function takes a run folder as it finds it and does only what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.config import RunConfig, ScoreConfig, SelectConfig, parse_budget
from scalselect.dataset.pool import open_pool
from scalselect.errors import DatasetError, OptionError, RunFolderError
from scalselect.progress import Silent
from scalselect.run_folder import RunFolder
from scalselect.score_work import score_run
from scalselect.select_work import select_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.records import Budget, DominantSubspace
    from scalselect.representation_store import ShardReport

    Dataset = str | Path | Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Represented:
    """What stage 1 has done for a run so far.

    Attributes
    ----------
    rows
        Rows of the pool that went through stage 1.
    counts, reasons
        Rows by status, skipped rows by reason.
    seconds
        Seconds of work by stage, summed over all shards, also those of earlier calls.
    pool_rows
        Rows of the whole data set; more than `rows` in a trial (`limit`).
    """

    folder: Path
    rows: int
    counts: dict[str, int]
    reasons: dict[str, int]
    seconds: dict[str, float]
    pool_rows: int

    @property
    def rows_per_second(self) -> float:
        """Rows a second of work."""
        return self.rows / max(sum(self.seconds.values()), 1e-9)

    @property
    def seconds_for_all(self) -> float:
        """Estimated seconds of work for the whole data set."""
        return self.pool_rows / self.rows_per_second


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RunResult:
    """The outcome of a run.

    Attributes
    ----------
    folder
        The run folder.
    rows
        Chosen row positions, ascending, int64 [chosen].
    scores
        Leverage score of every pool row, float64 [pool]; NaN where a row has none.
    summary
        The content of `selection.json`.
    represented
        What stage 1 did; None where only selection was asked for.
    """

    folder: Path
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    summary: dict[str, Any]
    represented: Represented | None = None


def run(
    dataset: Dataset,
    *,
    model: Any,
    budget: str | int | Budget,
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
        Data file, or a list of records.
    model
        Folder or hub name of a checkpoint, or a loaded transformers model (then with its `processor`).
    budget
        Rows to choose: a count, or a percentage such as ``"16%"``.
    output
        The run folder. A run that was interrupted continues; one that is done changes nothing.
    config_file
        TOML file with options; those given here win.
    **options
        Fields of `scalselect.config.RepresentConfig` and `ScoreConfig`, and `max_skipped`.

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
    for name in ("budget", "energy"):
        if name in options:
            raise OptionError(f"{name} has no effect on representing; give it to `score`, `select` or `run`")
    config = RunConfig.from_options(options, config_file)
    return represent_config(dataset, config, model=model, output=output, processor=processor, progress=progress)


def score(run_dir: str | Path, *, energy: float | None = None, progress: Progress | None = None) -> DominantSubspace:
    """Do stage 2 alone: leverage scores of all representations of a run folder. Loads no model.

    Parameters
    ----------
    energy
        Share of squared singular values to hold; default: what the run used before, else 0.9.
    """
    folder = RunFolder(run_dir)
    recorded = folder.require().get("score") or {}
    given = recorded if energy is None else {"energy": energy}
    config = ScoreConfig(**given)
    progress = progress or Silent()
    with folder.claimed(_waiting(progress)):
        return score_run(folder, config, progress)


def select(
    run_dir: str | Path,
    *,
    budget: str | int | Budget,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Do stage 3 alone: choose rows of a scored run folder. Loads no model.

    Parameters
    ----------
    dataset
        The records of a run that was given a Python list; the data file may also be named where it has moved.

    Raises
    ------
    DatasetError
        If the data are not those of the run.
    """
    folder = RunFolder(run_dir)
    config = SelectConfig(budget=parse_budget(budget))
    recorded = folder.require()
    _refuse_budget_above(config.budget, recorded["represent"]["rows"])
    folder.read_scores()  # no scores: said before the data file is read
    pool = _pool_of(recorded, dataset)
    progress = progress or Silent()
    with folder.claimed(_waiting(progress)):
        return _result(folder, select_run(folder, pool, config, progress), None)


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
    represented = represent_config(dataset, config, model=model, output=output, processor=processor, progress=progress)
    progress = progress or Silent()
    pool = _pool_of(folder.require(), dataset)
    with folder.claimed(_waiting(progress)):
        score_run(folder, config.score, progress)
        return _result(folder, select_run(folder, pool, config.select, progress), represented)


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
    options = config.represent
    folder = RunFolder(output)
    folder.check_usable()
    pool = open_pool(
        dataset,
        format=options.format,
        images=options.images,
        image_position=options.image_position,
        limit=options.limit,
    )
    if config.select is not None:
        _refuse_budget_above(config.select.budget, len(pool))
    progress = progress or Silent()
    progress.say(f"pool: {pool.describe()}")
    # Imported here because torch and transformers take seconds, which the other commands need not wait.
    from scalselect.represent_work import represent_run  # noqa: PLC0415

    reports = represent_run(folder, pool, model, config, processor=processor, progress=progress)
    return _represented(folder, reports, pool)


def _represented(folder: RunFolder, reports: Sequence[ShardReport], pool: Pool) -> Represented:
    def summed(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = sorted({name for group in groups for name in group})
        return {name: sum(group.get(name, 0) for group in groups) for name in names}

    return Represented(
        folder=folder.path,
        rows=sum(report.stop - report.start for report in reports),
        counts=summed([report.counts for report in reports]),
        reasons=summed([report.reasons for report in reports]),
        seconds=summed([report.seconds for report in reports]),
        pool_rows=pool.total_records,
    )


def _result(folder: RunFolder, summary: dict[str, Any], represented: Represented | None) -> RunResult:
    table = folder.read_scores()
    return RunResult(
        folder=folder.path,
        rows=np.flatnonzero(table["selected"].to_numpy(zero_copy_only=False)).astype(np.int64),
        scores=table["leverage_score"].to_numpy(zero_copy_only=False),
        summary=summary,
        represented=represented,
    )


def _waiting(progress: Progress) -> Callable[[str], None]:
    return lambda holder: progress.say(f"waiting: {holder or 'another process'} is scoring or selecting in this folder")


def _pool_of(recorded: Mapping[str, Any], dataset: Dataset | None) -> Pool:
    """Open the data of a run again, to copy records from, and make sure that they are the same."""
    keys = recorded["represent"]
    path: str | None = recorded["data"]["path"]
    if dataset is None and path is not None and not Path(path).is_file():
        raise DatasetError(f"the data file of the run is gone: {path} (give its new place with --dataset)")
    data = path if dataset is None else dataset
    if data is None:
        raise RunFolderError("the run was given a Python list: pass the same list as `dataset`")
    pool = open_pool(data, format=keys["data_format"], limit=keys["limit"])
    found = pool.fingerprint()
    different = [name for name in found if found[name] != keys[f"data_{name}"]]
    if different:
        told = "; ".join(f"{name} {keys[f'data_{name}']} then, {found[name]} now" for name in different)
        where = data if isinstance(data, (str, Path)) else "the list"
        raise DatasetError(f"the data have changed since they were scored: {where} ({told})")
    return pool


def _refuse_budget_above(budget: Budget, rows: int) -> None:
    if budget.count is not None and budget.count > rows:
        raise OptionError(f"budget is more than the pool holds: {budget.count} of {rows} rows")

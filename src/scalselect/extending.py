"""The Python API of a pool that grew: `extend` represents the new rows alone, then scores and chooses again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.config import select_config
from scalselect.damaged_shards import with_damage_mended
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.errors import OptionError
from scalselect.extend_work import (
    choice_to_repeat,
    list_not_kept,
    lists_changed,
    model_of,
    plan_extension,
    recorded_config,
    refuse_what_cannot_grow,
)
from scalselect.pipeline import score_config_over
from scalselect.pool_of_run import pool_of_run
from scalselect.progress import Silent, on_wait
from scalselect.report_work import write_report
from scalselect.results import Extended, represented_of, result_of
from scalselect.run_folder import RunFolder
from scalselect.score_work import score_run, share_scoring
from scalselect.segments import entries_of
from scalselect.select_work import select_run
from scalselect.worker_place import scoring_engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scalselect.progress import Progress
    from scalselect.records import DominantSubspace
    from scalselect.results import Represented, RunResult


def extend(
    run_dir: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    model: Any = None,
    processor: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> Extended:
    """Add data files to a run: only their rows go through the model. Then score and choose as the run did before.

    Parameters
    ----------
    data
        One data set or several, as paths or words such as ``"coco=new.json,images=DIR"``; each becomes a segment of the
        run. Those that the run has already are gone on with.
    model
        Folder, hub name or loaded model (then with its `processor`); default: the one that run.json names.
    **options
        `format`, `dataset_info` and `images` of the new data, `device`, `dataloader_workers`, `sample_seconds`,
        `skip_oom`, `verify_images`, `explanations`, `trust_remote_code`, `max_skipped`; all else is as run.json has it.

    Raises
    ------
    MisuseError
        Before any work: the run cannot be extended with these files, or model or versions are not those of the run.
    WorkError
        If work failed; what was finished is kept, and the same call continues.
    """
    folder = RunFolder(run_dir)
    folder.check_usable()
    run = folder.require()
    refuse_what_cannot_grow(folder, run)
    config = recorded_config(run, options)
    extension = plan_extension(folder, run, data, options)
    choice = choice_to_repeat(run)
    if choice is None and "explanations" in options:
        raise OptionError("explanations has no effect on a run that has no choice: give it to `run`, which makes one")
    pool, opened = None, extension.named
    if choice is not None or config.represent.verify_images:  # old records are read as well: they must be there
        grown = {**run, "segments": entries_of(extension.after)}
        pool = pool_of_run(grown, None, opened=[pool for _, pool in extension.named])
        parts = pool.parts if isinstance(pool, JoinedPool) else ()
        opened = list(zip(extension.after, parts, strict=True))
    progress = progress or Silent()
    if (name := list_not_kept(run)) is not None:
        progress.warn(
            f"the run's choice was made with {name} as a Python list, which is not kept: after this, make it again"
        )
    for name in lists_changed(run):
        progress.say(f"{name}: the file says something else than when the choice was made; it is taken as it is now")
    for segment, new in extension.named:
        progress.say(f"rows {segment.first_row:,} to {segment.stop_row - 1:,}: {new.describe()}")
    from scalselect.explain_work import explain_run  # noqa: PLC0415  as in `represent_config`
    from scalselect.represent_work import represent_segments  # noqa: PLC0415

    def attempt() -> tuple[Represented, DominantSubspace | None, RunResult | None]:
        done = represent_segments(
            folder,
            extension,
            opened,
            model_of(run, model),
            config,
            processor=processor,
            progress=progress,
            on_wait=on_wait(progress),
        )
        represented = represented_of(
            folder, done.totals, sum(len(new) for _, new in extension.named), workers=done.workers
        )
        if run["score"] is not None:
            share_scoring(folder, score_config_over(run["score"], {}), progress)
        with folder.claimed(on_wait(progress)):
            subspace = (
                None
                if run["score"] is None
                else score_run(
                    folder, score_config_over(run["score"], {}), progress, scoring_engine(config.engine, done.workers)
                )
            )
            if choice is None:
                return represented, subspace, None
            summary = select_run(folder, pool, select_config(choice), progress)
            explain_run(folder, pool, done.model, progress)
            write_report(folder, pool, progress)
            return represented, subspace, result_of(folder, summary, represented)

    with folder.alone():
        represented, subspace, selected = with_damage_mended(folder, attempt, progress)
        with folder.claimed(on_wait(progress)):
            folder.update(select_again=None)
    return Extended(
        folder=folder.path,
        segments=tuple(segment for segment, _ in extension.named),
        known_before=tuple(segment for segment, _ in extension.named if segment in extension.before),
        represented=represented,
        subspace=subspace,
        selected=selected,
    )

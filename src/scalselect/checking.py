"""The Python API of `check`: reads everything, selects nothing, lists every problem. Loads no model's weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scalselect.check_work import check_rows
from scalselect.config import RepresentConfig, RunConfig
from scalselect.dataset.data_sets import open_pools
from scalselect.dataset.image_outcomes import DecodeImages, FindImages
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.trainer_rules import counted
from scalselect.dataset.validation import RowChecker
from scalselect.engines.processes import can_fork, mark, usable_cpus
from scalselect.errors import OptionError, did_you_mean
from scalselect.image_files import PictureView
from scalselect.progress import Silent
from scalselect.trainers import preset_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scalselect.check_work import CheckedPool
    from scalselect.dataset.pool import Pool
    from scalselect.dataset.validation import Examiner, Problem
    from scalselect.pipeline import Dataset
    from scalselect.progress import Progress

_OF_DATA = ("format", "dataset_info", "limit", "like", "dataloader_workers", "sample_seconds")
_OF_PLACES = ("images", "allow_remote_images", "confine_images")
_OF_PICTURES = ("exif", "alpha", "image_resize", "image_min_pixels", "image_max_pixels", "decode_max_pixels")
_OF_MODEL = (
    "image_fit",
    "image_position",
    "max_length",
    "chat_template",
    "instruction_tokens",
    "revision",
    "trust_remote_code",
)
OPTIONS = (*_OF_DATA, *_OF_PLACES, *_OF_PICTURES, *_OF_MODEL)

_OF_TRL = (
    "TRL is given the export (scalselect export --to trl), and that is judged, not this file: `<image>` left in a text "
    "would be trained on as text; roles get TRL's words, ids become strings"
)
_PARTS_OF_SWIFT = (
    "with content in parts, which ms-swift was not tried on: scalselect export --to messages writes plain texts"
)
_ROWS_A_TASK = {"on": (8, 128), "off": (256, 2048)}  # fewest and most: a task must outweigh its hand-over
_TASKS_A_PROCESS = 8  # at least, where rows suffice: all processes are to end at about the same time
_KEPT = 100
_HIDDEN_OF_7B = 4096
_FLOAT32, _BYTES_OF_A_ROW = 4, 400  # the latter: rows.parquet and scores.parquet, measured at 200 to 400


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found.

    Attributes
    ----------
    data_sets
        Of each: `name`, `location`, `format`, `container`, `rows`.
    kinds
        Of each kind of problem and effect: `kind`, `effect`, `problems`; of data sets first, then the most frequent.
    examples
        The first problems of each of them, at most 100 each.
    counts
        `rows`, `text_only`, `unusable`, `images`, `image_bytes`, rows that are `exif_rotated`, `alpha`,
        `images_in_front`, and with a model `truncated` and `escaped`.
    notes
        What is no problem but worth knowing.
    lengths
        With a model: quantiles of `tokens` and `vision_tokens` a sample.
    estimate
        Where there is no problem, of a run: `reading_seconds` with `processes`, `bytes` for `hidden_size`; else None.
    """

    data_sets: list[dict[str, Any]]
    like: str | None
    decode: str
    max_length: int | None
    kinds: list[dict[str, Any]]
    examples: list[Problem]
    counts: dict[str, int]
    notes: list[str]
    lengths: dict[str, dict[str, float]]
    estimate: dict[str, Any] | None
    seconds: float
    problems: int

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def check(
    dataset: Dataset,
    *,
    model: Any = None,
    processor: Any = None,
    decode: str = "on",
    on_problem: Callable[[Problem], None] | None = None,
    config_file: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CheckResult:
    """Read every record and decode every image of a data set, and list every problem.

    Parameters
    ----------
    dataset
        As for `scalselect.run`.
    model, processor
        Of a checkpoint only configuration and processor are read: samples are made ready as in a run, to know their
        lengths, what would be cut, and what is refused. The model is not run.
    decode
        `off` only looks whether the files of images are there.
    on_problem
        Called with every problem as it is found, in the order of the rows; the result keeps examples alone.
    config_file
        TOML file with options; those given here win.
    **options
        Fields of `scalselect.config.RepresentConfig` that change what is looked at; `like` also applies the rules of
        that trainer.

    Raises
    ------
    MisuseError
        Before any work.
    DataChangedError
        If the data are changed meanwhile.
    """
    config = checked_options(options, config_file, decode=decode, with_model=model is not None)
    progress = progress or Silent()
    pools, _ = open_pools(
        dataset,
        format=config.format,
        dataset_info=config.dataset_info,
        images=config.images,
        allow_remote_images=config.allow_remote_images,
        confine_images=config.confine_images,
        image_position=config.image_position,
        limit=config.limit,
    )
    _say_start(pools, config, progress, with_model=model is not None)
    examine, hidden_size = _examiner(config, decode, model, processor, progress)
    processes = _processes(config)
    pool = JoinedPool(pools)
    found = check_rows(
        pool,
        RowChecker(pool, examine, config.like, mark),
        like=config.like,
        processes=processes,
        seconds=config.sample_seconds,
        rows_a_task=rows_a_task(len(pool), processes, decode),
        keep=_KEPT,
        on_problem=on_problem or (lambda _problem: None),
        progress=progress,
    )
    return _result(pools, found, config, decode, hidden_size=hidden_size, processes=processes)


def checked_options(
    options: dict[str, Any], config_file: str | Path | None, *, decode: str, with_model: bool
) -> RepresentConfig:
    """Return the options of a check. Raises OptionError, also for one that would have no effect."""
    if decode not in _ROWS_A_TASK:
        raise OptionError(f"decode must be one of on, off: {decode!r}{did_you_mean(str(decode), _ROWS_A_TASK)}")
    for name in options:
        if name not in OPTIONS:
            raise OptionError(f"check has no option `{name}`{did_you_mean(name, OPTIONS)}")
        if name in _OF_MODEL and not with_model:
            raise OptionError(f"{name} has an effect with a model only: give model as well, or leave it out")
        if name in _OF_PICTURES and decode == "off":
            raise OptionError(f"{name} has no effect where no image is decoded: leave it out, or give decode `on`")
    if with_model and decode == "off":
        raise OptionError("a model needs decoded images: leave out decode `off`, or the model")
    config = RunConfig.from_options(options, config_file).represent
    limits = {"image_min_pixels", "image_max_pixels"} & options.keys()
    if limits and not with_model and config.image_resize == "processor":
        raise OptionError(f"{min(limits)} is the processor's limit: give model as well, or image_resize `before`")
    return config


def rows_a_task(rows: int, processes: int, decode: str) -> int:
    """Return how many rows a process is handed at a time: few of a small set, so that no process waits for another."""
    fewest, most = _ROWS_A_TASK[decode]
    return min(most, max(fewest, rows // (max(1, processes) * _TASKS_A_PROCESS)))


def _say_start(pools: list[Pool], config: RepresentConfig, progress: Progress, *, with_model: bool) -> None:
    for pool in pools:
        name = f" {pool.source}" if len(pools) > 1 else ""
        progress.say(f"pool{name}: {pool.describe()}")
    if config.like is not None and with_model:
        for line in preset_lines(config.like, asdict(config)):
            progress.say(line)


def _examiner(
    config: RepresentConfig, decode: str, model: Any, processor: Any, progress: Progress
) -> tuple[Examiner, int | None]:
    view = PictureView.of(config)
    if model is None:
        return (DecodeImages(view) if decode == "on" else FindImages()), None
    # Imported here because torch and transformers take seconds, which a check without a model need not wait.
    from scalselect.check_preparation import PrepareSamples  # noqa: PLC0415
    from scalselect.vlm.preparation import load_preparation  # noqa: PLC0415

    preparation = load_preparation(model, config, processor=processor)
    for warning in preparation.warnings:
        progress.warn(warning)
    return PrepareSamples(preparation, view, config.max_length), preparation.hidden_size


def _processes(config: RepresentConfig) -> int:
    if config.dataloader_workers != "auto":
        return int(config.dataloader_workers)
    return usable_cpus() if can_fork else 0


def _result(
    pools: list[Pool],
    found: CheckedPool,
    config: RepresentConfig,
    decode: str,
    *,
    hidden_size: int | None,
    processes: int,
) -> CheckResult:
    of_files = {(problem.kind, problem.effect) for problem in found.examples if problem.row is None}
    kinds = [
        {"kind": kind, "effect": effect, "problems": number}
        for (kind, effect), number in sorted(
            found.kinds.items(), key=lambda pair: (pair[0] not in of_files, -pair[1], pair[0])
        )
    ]
    return CheckResult(
        data_sets=[
            {
                "name": pool.source,
                "location": pool.location,
                "format": pool.format,
                "container": pool.container,
                "rows": len(pool),
            }
            for pool in pools
        ],
        like=config.like,
        decode=decode,
        max_length=config.max_length if hidden_size is not None else None,
        kinds=kinds,
        examples=found.examples,
        counts=found.counts,
        notes=_notes(found, config.like),
        lengths=found.lengths,
        estimate=None if found.problems else _estimate(found, hidden_size, processes, decode),
        seconds=found.seconds,
        problems=found.problems,
    )


def _notes(found: CheckedPool, like: str | None) -> list[str]:
    notes = []
    ids, rows = found.repeated_ids
    if ids:
        stand = "stands" if ids == 1 else "stand"
        notes.append(
            f"{counted(ids, 'id')} {stand} in several rows, {rows:,} rows in all; rows are told apart by their position"
        )
    words = {
        "exif_rotated": "with an image that an orientation tag turns: trainers differ there (exif)",
        "alpha": "with a transparent image: trainers differ there (alpha)",
        "images_in_front": "with images and no `<image>`: images are put in front of the first user turn",
        "truncated": "to be cut at the length limit, behind the last image",
        "escaped": "with a special token of the model spelled out, which stays text",
    }
    notes += [f"{counted(found.counts[name])} {text}" for name, text in words.items() if found.counts.get(name)]
    if like == "trl":
        notes.append(_OF_TRL)
    if like == "ms-swift" and found.counts.get("content_parts"):
        notes.append(f"{counted(found.counts['content_parts'])} {_PARTS_OF_SWIFT}")
    return notes


def _estimate(found: CheckedPool, hidden_size: int | None, processes: int, decode: str) -> dict[str, Any]:
    rows = found.counts.get("rows", 0)
    scored = rows - found.counts.get("text_only", 0)
    size = hidden_size or _HIDDEN_OF_7B
    return {
        "reading_seconds": found.seconds if decode == "on" else None,
        "processes": max(1, processes),
        "bytes": scored * size * _FLOAT32 + rows * _BYTES_OF_A_ROW,
        "hidden_size": size,
        "hidden_size_assumed": hidden_size is None,
    }

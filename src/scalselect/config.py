"""RunConfig and its three groups: each default written once, each value checked, precedence stated.

A value given in the call (command line or Python) beats the TOML file, which beats what `like` stands for, which beats
the default. The field metadata is the one source of help texts, choices and aliases; `scalselect.command_options`
builds options from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Self

from scalselect.engine_options import EngineConfig
from scalselect.errors import OptionError, did_you_mean
from scalselect.option_values import (
    check_choices,
    check_flags,
    check_fraction,
    check_positive,
    option_field,
    parse_budgets,
    parse_percent,
    picked_fields,
    read_config_file,
)
from scalselect.trainers import TrainerName, from_preset, preset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scalselect.records import Budget

Format = Literal["auto", "llava", "sharegpt", "messages", "alpaca", "query-response", "prompt-completion"]
InstructionTokens = Literal["user", "non-assistant"]
ImagePosition = Literal["record", "turn-start"]
Exif = Literal["ignore", "apply"]
Alpha = Literal["drop", "white"]
ImageResize = Literal["processor", "before"]
ImageFit = Literal["auto", "processor", "pad"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Pooling = Literal["attended", "all"]
OnOff = Literal["on", "off"]
Order = Literal["pool", "image"]
DeepStack = Literal["exclude", "include"]
Vectors = Literal["vision", "vision+instruction"]
StoreDtype = Literal["float32", "float16"]
StrategyName = Literal["top-leverage", "leverage-sampling", "d-optimal", "joint-leverage-sampling", "coverage", "half"]
Deduplicate = Literal["none", "exact", "near"]
TextOnly = Literal["exclude", "keep", "sample"]

DEFAULT_MAX_SKIPPED = Decimal(5)
MOST_EXPLAINED = 200
# Options of `RepresentConfig` that change no vector of a row that has one, so that a run may be continued with others.
NOT_KEYS = ("dataloader_workers", "sample_seconds", "skip_oom", "verify_images", "explanations")
# Options of `RepresentConfig` that data added to a run may have of their own; all others are as the run recorded them.
OF_NEW_DATA = ("format", "dataset_info", "images", "trust_remote_code", "device", *NOT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepresentConfig:
    """Stage 1: how a record becomes a vector.

    Every field is a key of run.json's `represent` group, but for `NOT_KEYS`, which change no vector. What `like` stands
    for is filled in by `RunConfig.from_options`.
    """

    format: str = option_field("auto", "record format of the data file; auto looks at its records", choices=Format)
    dataset_info: str | None = option_field(
        None, "LLaMA-Factory's dataset_info.json; DATASET is then a name in it, or several", metavar="FILE"
    )
    images: str | None = option_field(
        None,
        "folder that image paths are relative to (default: the data file's)",
        aliases=("media-dir", "image-folder"),
        metavar="DIR",
    )
    revision: str | None = option_field(None, "revision of a model that comes from a hub", metavar="R")
    trust_remote_code: bool = option_field(
        default=False, text="run Python code that comes with the checkpoint, with all rights of this process", kind=bool
    )
    chat_template: str | None = option_field(
        None, "Jinja file that replaces the checkpoint's chat template, or `vicuna`", metavar="FILE|vicuna"
    )
    instruction_tokens: str = option_field("user", "which tokens are the instruction", choices=InstructionTokens)
    attention_mass: float = option_field(0.9, "share of attention that the averaged vision tokens hold", kind=float)
    layer: int = option_field(0, "decoder layer whose output is averaged, counted from 0", kind=int)
    pooling: str = option_field("attended", "which vision tokens are averaged", choices=Pooling)
    deepstack: str = option_field("exclude", "whether vision features added after the layer count", choices=DeepStack)
    vectors: str = option_field("vision", "what is stored of a sample", choices=Vectors)
    store_dtype: str = option_field(
        "float32", "number type of stored vectors; float16: about the mean of their shard", choices=StoreDtype
    )
    allow_remote_images: bool = option_field(
        default=False, text="fetch images at web addresses and in other stores that records name", kind=bool
    )
    like: str | None = option_field(
        None,
        "trainer whose way with images and texts is taken; other options win over what it sets",
        choices=TrainerName,
    )
    image_position: str = option_field("record", "where in its turn an image is shown", choices=ImagePosition)
    exif: str = option_field("ignore", "whether an orientation tag turns the picture", choices=Exif)
    alpha: str = option_field("drop", "what transparency becomes; drop: the colour beneath shows", choices=Alpha)
    image_fit: str = option_field(
        "auto", "whether pictures are padded to a square first; auto: as the checkpoint says", choices=ImageFit
    )
    image_resize: str = option_field(
        "processor",
        "who keeps the limits of pixels: the processor, or a resizing before it as LLaMA-Factory's",
        choices=ImageResize,
    )
    image_min_pixels: int | None = option_field(None, "lower limit of pixels an image", kind=int)
    image_max_pixels: int | None = option_field(None, "upper limit of pixels an image", kind=int)
    max_length: int | None = option_field(None, "longest conversation in tokens", kind=int, aliases=("cutoff-len",))
    image_reuse: str = option_field("on", "whether samples share the model's work on an image", choices=OnOff)
    order: str = option_field(
        "pool", "order of work; image: samples that share images follow one another", choices=Order
    )
    batch_size: str | int = option_field("auto", "rows a batch at most; auto: a budget of tokens alone", kind=int)
    dtype: str = option_field(
        "auto", "number type of the model; auto: float32 on CPU, else the checkpoint's", choices=Dtype
    )
    device: str = option_field("auto", "torch device, for example cpu or cuda:1", metavar="auto|cpu|cuda|...")
    threads: str | int = option_field("auto", "CPU threads of the numerical libraries", kind=int)
    dataloader_workers: str | int = option_field(
        "auto", "processes that read and prepare images beside the model; 0: none", kind=int
    )
    decode_max_pixels: int | None = option_field(
        None, "most pixels a picture may have to be decoded; 178,956,970 unless given", kind=int
    )
    confine_images: bool | None = option_field(
        None,
        "skip rows whose images lie outside the image folder, wherever links lead; for data from a hub or a URL unless "
        "told otherwise",
        kind=bool,
    )
    sample_seconds: int = option_field(
        60, "longest time that a sample may take to be made ready for the model", kind=int
    )
    skip_oom: bool = option_field(
        default=False, text="skip a sample that alone does not fit into the memory", kind=bool
    )
    verify_images: bool = option_field(
        default=False, text="hold every image of the rows represented before against its hash", kind=bool
    )
    explanations: int = option_field(
        MOST_EXPLAINED, f"rows whose attention is kept for the report, at most {MOST_EXPLAINED}; 0: none", kind=int
    )
    shard_size: int = option_field(1000, "rows of the pool a shard", kind=int)
    limit: int | None = option_field(None, "first rows of the pool only, as a trial with an estimate for all", kind=int)

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        OptionError
            Naming the option, what was received and what would be right.
        """
        check_choices(self)
        check_flags(self)
        check_fraction("attention_mass", self.attention_mass)
        for name in (
            "image_min_pixels",
            "image_max_pixels",
            "max_length",
            "decode_max_pixels",
            "sample_seconds",
            "shard_size",
            "limit",
        ):
            check_positive(name, getattr(self, name))
        if not isinstance(self.layer, int) or self.layer < 0:
            raise OptionError(f"layer must be a whole number of at least 0: {self.layer!r}")
        for name in ("batch_size", "threads"):
            if getattr(self, name) != "auto":
                check_positive(name, getattr(self, name), besides="auto")
        workers = self.dataloader_workers
        if workers != "auto" and (not isinstance(workers, int) or workers < 0):
            raise OptionError(f"dataloader_workers must be a whole number of at least 0 or `auto`: {workers!r}")
        explained = self.explanations
        if not isinstance(explained, int) or isinstance(explained, bool) or not 0 <= explained <= MOST_EXPLAINED:
            raise OptionError(f"explanations must be a whole number from 0 to {MOST_EXPLAINED}: {explained!r}")
        low, high = self.image_min_pixels, self.image_max_pixels
        if low and high and low > high:
            why = from_preset(self.like, {"image_min_pixels": low, "image_max_pixels": high})
            raise OptionError(f"image_min_pixels must not exceed image_max_pixels: {low} > {high}{why}")
        if self.image_resize == "before" and self.image_min_pixels is None and self.image_max_pixels is None:
            raise OptionError(
                "image_resize `before` has no effect without a limit: give image_max_pixels, image_min_pixels, or both"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """Stage 2: how vectors become leverage scores."""

    energy: float = option_field(0.9, "share of squared singular values the dominant subspace holds", kind=float)
    rank: int | None = option_field(None, "dimensions of the dominant subspace, whatever energy they hold", kind=int)
    centring: str = option_field("on", "whether the mean is taken from the vectors", choices=OnOff)
    standardise_columns: str = option_field(
        "off", "whether every feature is divided by its standard deviation first", choices=OnOff
    )
    normalise_rows: str = option_field("off", "whether every vector is divided by its norm first", choices=OnOff)

    def __post_init__(self) -> None:
        """Check every value; raises OptionError."""
        check_fraction("energy", self.energy)
        check_positive("rank", self.rank)
        check_choices(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectConfig:
    """Stage 3: how scores become chosen rows. Rows and ids are given as files, in Python also as lists."""

    budget: tuple[Budget, ...] = field(
        metadata={
            "help": "rows to choose: a count, or a percentage such as 16%; several with commas",
            "metavar": "16%|N",
        }
    )
    strategy: str = option_field("top-leverage", "how scores become rows", choices=StrategyName)
    seed: int = option_field(0, "of everything that is drawn at random", kind=int)
    deduplicate: str = option_field(
        "none", "bar all but one of rows that are copies of one another", choices=Deduplicate
    )
    near_bound: float = option_field(0.99, "cosine from which on two vectors are near-copies", kind=float)
    near_across_questions: bool = option_field(
        default=False, text="bar near-copies that ask different questions about the same images as well", kind=bool
    )
    max_per_image: int | None = option_field(None, "most rows that may show the same image", kind=int)
    stratify_by: str | None = option_field(
        None, "choose within groups: `source`, or a field of the records", metavar="FIELD"
    )
    quotas: str = option_field(
        "proportional", "rows a group: proportional, equal, or a file", metavar="proportional|equal|FILE"
    )
    text_only: str = option_field(
        "exclude", "rows without images, on top of the budget: none, all, or the same share, drawn", choices=TextOnly
    )
    include_rows: str | Sequence[object] | None = option_field(
        None, "file of row positions that must be chosen", kind=list, metavar="FILE"
    )
    include_ids: str | Sequence[object] | None = option_field(
        None, "file of ids that must be chosen", kind=list, metavar="FILE"
    )
    exclude_rows: str | Sequence[object] | None = option_field(
        None, "file of row positions that must not be chosen", kind=list, metavar="FILE"
    )
    exclude_ids: str | Sequence[object] | None = option_field(
        None, "file of ids that must not be chosen", kind=list, metavar="FILE"
    )

    def __post_init__(self) -> None:
        """Check every value; raises OptionError."""
        check_choices(self)
        check_flags(self)
        check_fraction("near_bound", self.near_bound)
        check_positive("max_per_image", self.max_per_image)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise OptionError(f"seed must be a whole number of at least 0: {self.seed!r}")
        if self.near_across_questions and self.deduplicate != "near":
            raise OptionError("near_across_questions needs deduplicate `near`: it says which near-copies are barred")
        if self.stratify_by == "":
            raise OptionError("stratify_by is empty: give `source`, or the name of a field of the records")
        if self.quotas != "proportional" and self.stratify_by is None:
            raise OptionError(f"quotas need stratify_by, which says what the groups are: {self.quotas!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything a run is asked to do.

    Attributes
    ----------
    select
        None where nothing is to be chosen (``scalselect represent``, ``scalselect score``).
    max_skipped
        Highest tolerated percentage of skipped rows among all rows but text-only ones. Not part of run.json.
    engine
        Where work runs. Not part of run.json either.
    """

    represent: RepresentConfig
    score: ScoreConfig
    select: SelectConfig | None = None
    max_skipped: Decimal = DEFAULT_MAX_SKIPPED
    engine: EngineConfig = field(default_factory=EngineConfig)

    @classmethod
    def from_options(cls, options: dict[str, Any], config_file: str | Path | None = None) -> Self:
        """Build a configuration from the options given in the call and those of a TOML file.

        Parameters
        ----------
        options
            Option name (underscores) to value; only what was given. `budget` and `max_skipped` may be strings.
        config_file
            TOML file whose keys are option names, with dashes or underscores.

        Raises
        ------
        OptionError
            For an unknown name, a wrong type or an impossible value.
        """
        known = {"max_skipped"} | {
            item.name for group in (RepresentConfig, ScoreConfig, SelectConfig, EngineConfig) for item in fields(group)
        }
        from_file = {} if config_file is None else read_config_file(config_file)
        for given, where in ((from_file, f" in {config_file}"), (options, "")):
            for name in given:
                if name not in known:
                    raise OptionError(f"unknown option{where}: `{name}`{did_you_mean(name, known)}")
        merged = {**from_file, **options}
        merged = {**preset(merged.get("like")), **merged}
        wanted = [item.name for item in fields(SelectConfig) if item.name in merged]
        return cls(
            represent=RepresentConfig(**picked_fields(RepresentConfig, merged)),
            score=score_config(merged),
            select=select_config(merged) if wanted else None,
            max_skipped=parse_percent("max_skipped", merged.get("max_skipped", DEFAULT_MAX_SKIPPED)),
            engine=EngineConfig(**picked_fields(EngineConfig, merged)),
        )


def score_config(options: Mapping[str, Any]) -> ScoreConfig:
    """Return stage 2's group of the options. Raises OptionError."""
    if options.get("rank") is not None and "energy" in options:
        raise OptionError(
            f"energy and rank exclude each other: {options['energy']} and {options['rank']} (rank takes so many "
            "dimensions whatever energy they hold)"
        )
    return ScoreConfig(**picked_fields(ScoreConfig, options))


def select_config(options: Mapping[str, Any]) -> SelectConfig:
    """Return stage 3's group of the options. Raises OptionError, also where no budget is given."""
    picked = picked_fields(SelectConfig, {name: value for name, value in options.items() if name != "budget"})
    if "budget" not in options:
        raise OptionError(f"{next(iter(picked))} says how rows are chosen, and no budget says how many")
    return SelectConfig(budget=parse_budgets(options["budget"]), **picked)

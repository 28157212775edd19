"""RunConfig and its three groups: each default written once, each value checked, precedence stated.

A value given in the call (command line or Python) beats the TOML file, which beats the default. The field
metadata is the one source of help texts, choices and aliases; `scalselect.cli` builds its options from it.
"""

from __future__ import annotations

import contextlib
import operator
import tomllib
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex, cast, get_args

from scalselect.errors import OptionError, did_you_mean
from scalselect.records import Budget

Format = Literal["auto", "llava", "messages"]
InstructionTokens = Literal["user", "non-assistant"]
ImagePosition = Literal["record", "turn-start"]
Exif = Literal["ignore", "apply"]
ImageFit = Literal["auto", "processor", "pad"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Pooling = Literal["attended", "all"]
ImageReuse = Literal["on", "off"]
Order = Literal["pool", "image"]
DeepStack = Literal["exclude", "include"]
Vectors = Literal["vision", "vision+instruction"]

DEFAULT_MAX_SKIPPED = Decimal(5)


def _option(
    default: Any,
    text: str,
    *,
    kind: type = str,
    choices: Any = None,
    aliases: tuple[str, ...] = (),
    metavar: str | None = None,
) -> Any:
    facts = {"help": text, "kind": kind, "choices": get_args(choices) or None, "aliases": aliases, "metavar": metavar}
    return field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepresentConfig:
    """Stage 1: how a record becomes a vector.

    Every field is a key of run.json's `represent` group, but for `dataloader_workers`, which changes no vector.
    """

    format: str = _option("auto", "record format of the data file; auto looks at its records", choices=Format)
    images: str | None = _option(
        None,
        "folder that image paths are relative to (default: the data file's)",
        aliases=("media-dir", "image-folder"),
        metavar="DIR",
    )
    revision: str | None = _option(None, "revision of a model that comes from a hub", metavar="R")
    trust_remote_code: bool = _option(
        default=False, text="run Python code that comes with the checkpoint, with all rights of this process", kind=bool
    )
    chat_template: str | None = _option(
        None, "Jinja file that replaces the checkpoint's chat template, or `vicuna`", metavar="FILE|vicuna"
    )
    instruction_tokens: str = _option("user", "which tokens are the instruction", choices=InstructionTokens)
    attention_mass: float = _option(0.9, "share of attention that the averaged vision tokens hold", kind=float)
    layer: int = _option(0, "decoder layer whose output is averaged, counted from 0", kind=int)
    pooling: str = _option("attended", "which vision tokens are averaged", choices=Pooling)
    deepstack: str = _option("exclude", "whether vision features added after the layer count", choices=DeepStack)
    vectors: str = _option("vision", "what is stored of a sample", choices=Vectors)
    image_position: str = _option("record", "where in its turn an image is shown", choices=ImagePosition)
    exif: str = _option("ignore", "whether an orientation tag turns the picture", choices=Exif)
    image_fit: str = _option(
        "auto", "whether pictures are padded to a square first; auto: as the checkpoint says", choices=ImageFit
    )
    image_min_pixels: int | None = _option(None, "the processor's lower limit of pixels an image", kind=int)
    image_max_pixels: int | None = _option(None, "the processor's upper limit of pixels an image", kind=int)
    max_length: int | None = _option(None, "longest conversation in tokens", kind=int, aliases=("cutoff-len",))
    image_reuse: str = _option("on", "whether samples share the model's work on an image", choices=ImageReuse)
    order: str = _option("pool", "order of work; image: samples that share images follow one another", choices=Order)
    batch_size: str | int = _option("auto", "rows a batch at most; auto: a budget of tokens alone", kind=int)
    dtype: str = _option("auto", "number type of the model; auto: float32 on CPU, else the checkpoint's", choices=Dtype)
    device: str = _option("auto", "torch device, for example cpu or cuda:1", metavar="auto|cpu|cuda|...")
    threads: str | int = _option("auto", "CPU threads of the numerical libraries", kind=int)
    dataloader_workers: str | int = _option(
        "auto", "processes that read and prepare images beside the model; 0: none", kind=int
    )
    shard_size: int = _option(1000, "rows of the pool a shard", kind=int)
    limit: int | None = _option(None, "first rows of the pool only, as a trial with an estimate for all", kind=int)

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        OptionError
            Naming the option, what was received and what would be right.
        """
        _check_choices(self)
        if not isinstance(self.trust_remote_code, bool):
            raise OptionError(f"trust_remote_code must be true or false: {self.trust_remote_code!r}")
        _check_fraction("attention_mass", self.attention_mass)
        for name in ("image_min_pixels", "image_max_pixels", "max_length", "shard_size", "limit"):
            _check_positive(name, getattr(self, name))
        if not isinstance(self.layer, int) or self.layer < 0:
            raise OptionError(f"layer must be a whole number of at least 0: {self.layer!r}")
        for name in ("batch_size", "threads"):
            if getattr(self, name) != "auto":
                _check_positive(name, getattr(self, name), besides="auto")
        workers = self.dataloader_workers
        if workers != "auto" and (not isinstance(workers, int) or workers < 0):
            raise OptionError(f"dataloader_workers must be a whole number of at least 0 or `auto`: {workers!r}")
        if self.image_min_pixels and self.image_max_pixels and self.image_min_pixels > self.image_max_pixels:
            raise OptionError(
                f"image_min_pixels must not exceed image_max_pixels: {self.image_min_pixels} > {self.image_max_pixels}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """Stage 2: how vectors become leverage scores."""

    energy: float = _option(0.9, "share of squared singular values the dominant subspace holds", kind=float)

    def __post_init__(self) -> None:
        """Check every value; raises OptionError."""
        _check_fraction("energy", self.energy)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectConfig:
    """Stage 3: how scores become chosen rows."""

    budget: Budget = field(
        metadata={"help": "rows to choose: a count, or a percentage such as 16%", "metavar": "16%|N"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything a run is asked to do.

    Attributes
    ----------
    select
        None where nothing is to be chosen (``scalselect represent``, ``scalselect score``).
    max_skipped
        Highest tolerated percentage of skipped rows among all rows but text-only ones. Not part of run.json.
    """

    represent: RepresentConfig
    score: ScoreConfig
    select: SelectConfig | None = None
    max_skipped: Decimal = DEFAULT_MAX_SKIPPED

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
        known = {"budget", "max_skipped"} | {
            item.name for group in (RepresentConfig, ScoreConfig) for item in fields(group)
        }
        from_file = {} if config_file is None else read_config_file(config_file)
        for given, where in ((from_file, f" in {config_file}"), (options, "")):
            for name in given:
                if name not in known:
                    raise OptionError(f"unknown option{where}: `{name}`{did_you_mean(name, known)}")
        merged = {**from_file, **options}
        return cls(
            represent=RepresentConfig(**_pick(RepresentConfig, merged)),
            score=ScoreConfig(**_pick(ScoreConfig, merged)),
            select=SelectConfig(budget=parse_budget(merged["budget"])) if "budget" in merged else None,
            max_skipped=parse_percent("max_skipped", merged.get("max_skipped", DEFAULT_MAX_SKIPPED)),
        )


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Return the options of a TOML file, names with underscores. Raises OptionError."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"config file cannot be read: {path} ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"config file is not valid TOML: {path} ({error})") from error
    return {name.replace("-", "_"): value for name, value in content.items()}


def parse_budget(value: object) -> Budget:
    """Return the budget meant by ``"16%"``, ``"5000"`` or ``5000``.

    Raises
    ------
    OptionError
        For zero, negative, fractional or otherwise unreadable budgets.
    """
    advice = "give a whole number of rows such as 5000, or a percentage such as 16%"
    if isinstance(value, Budget):
        return value
    if isinstance(value, float) or (isinstance(value, str) and "%" not in value and "." in value):
        raise OptionError(f"budget is a fraction, which could mean a share or a count: {value} ({advice})")
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = parse_percent("budget", value)
        if percent == 0:
            raise OptionError(f"budget must be above 0%: {value}")
        return Budget(percent=percent)
    count = None
    if not isinstance(value, bool):
        with contextlib.suppress(ValueError, TypeError):
            count = int(value) if isinstance(value, str) else operator.index(cast("SupportsIndex", value))
    if count is None:
        raise OptionError(f"budget cannot be read: {value!r} ({advice})")
    if count < 1:
        raise OptionError(f"budget must be at least one row: {value} ({advice})")
    return Budget(count=count)


def parse_percent(name: str, value: object) -> Decimal:
    """Return a percentage between 0 and 100 from ``"5%"`` or a Decimal, in decimal arithmetic. Raises OptionError."""
    if isinstance(value, Decimal):
        percent = value
    elif isinstance(value, str) and value.strip().endswith("%"):
        try:
            percent = Decimal(value.strip()[:-1].strip())
        except InvalidOperation:
            raise OptionError(f"{name} cannot be read: {value!r} (a percentage such as 5% is wanted)") from None
    else:
        raise OptionError(f"{name} must be a percentage such as 5%: {value!r}")
    if not percent.is_finite() or not 0 <= percent <= 100:  # noqa: PLR2004  a percentage
        raise OptionError(f"{name} must lie between 0% and 100%: {value}")
    return percent


def _pick(group: type, options: dict[str, Any]) -> dict[str, Any]:
    return {item.name: _typed(item, options[item.name]) for item in fields(group) if item.name in options}


def _typed(item: Field[Any], value: Any) -> Any:
    kind = item.metadata["kind"]
    if (value is None and item.default is None) or (value == "auto" and item.default == "auto"):
        return value
    wrong = isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind)
    if wrong and not (kind is str and isinstance(value, Path)):
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
        raise OptionError(f"{item.name} must be {words}: {value!r}")
    return kind(value)


def _check_choices(config: RepresentConfig) -> None:
    for item in fields(config):
        allowed = item.metadata["choices"]
        value = getattr(config, item.name)
        if allowed and value not in allowed:
            raise OptionError(
                f"{item.name} must be one of {', '.join(allowed)}: {value!r}{did_you_mean(value, allowed)}"
            )


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise OptionError(f"{name} must lie between 0 and 1, both excluded: {value}")


def _check_positive(name: str, value: object, *, besides: str | None = None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        or_word = f" or `{besides}`" if besides else ""
        raise OptionError(f"{name} must be a whole number of at least 1{or_word}: {value!r}")

"""Values of options as they are given: from a TOML file, budgets and percentages read exactly, numbers checked."""

from __future__ import annotations

import contextlib
import operator
import tomllib
from collections.abc import Sequence
from dataclasses import field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast, get_args

from scalselect.errors import OptionError, did_you_mean
from scalselect.records import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

    from _typeshed import DataclassInstance


def option_field(
    default: Any,
    text: str,
    *,
    kind: type = str,
    choices: Any = None,
    aliases: tuple[str, ...] = (),
    metavar: str | None = None,
) -> Any:
    """Return a dataclass field that is an option: what its help says, and which values there are, in its metadata."""
    facts = {"help": text, "kind": kind, "choices": get_args(choices) or None, "aliases": aliases, "metavar": metavar}
    return field(default=default, metadata=facts)


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Return the options of a TOML file, names with underscores. Raises OptionError."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"config file cannot be read: {path} ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"config file is not valid TOML: {path} ({error})") from error
    return {name.replace("-", "_"): value for name, value in content.items()}


def parse_budgets(value: object) -> tuple[Budget, ...]:
    """Return the budgets meant by ``"16%"``, ``5000``, ``"5%,16%"`` or a list of such.

    Raises
    ------
    OptionError
        As `parse_budget`; for none, or one that is given twice.
    """
    if isinstance(value, str):
        parts: Sequence[object] = value.split(",")
    else:
        parts = value if isinstance(value, (list, tuple)) else [value]
    budgets = tuple(parse_budget(part) for part in parts)
    if not budgets or len(set(budgets)) < len(budgets):
        raise OptionError(f"budget must be one or several different budgets: {value!r}")
    return budgets


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


def typed(item: Field[Any], value: Any) -> Any:
    """Return an option's value in the type that the metadata of its field names. Raises OptionError."""
    kind = item.metadata["kind"]
    if (value is None and item.default is None) or (value == "auto" and item.default == "auto"):
        return value
    if kind is list:  # a file that lists things, or the things themselves
        if isinstance(value, (str, Path)) or (
            isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray))
        ):
            return value
        raise OptionError(f"{item.name} must be a file, or a list: {value!r}")
    wrong = isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind)
    if wrong and not (kind is str and isinstance(value, Path)):
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
        raise OptionError(f"{item.name} must be {words}: {value!r}")
    return kind(value)


def picked_fields(group: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are fields of a configuration group, typed. Raises OptionError."""
    return {item.name: typed(item, options[item.name]) for item in fields(group) if item.name in options}


def check_flags(config: DataclassInstance) -> None:
    """Raise OptionError where an option of a configuration group that is on or off is neither."""
    for item in fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("kind") is bool and not isinstance(value, bool) and value is not item.default:
            raise OptionError(f"{item.name} must be true or false: {value!r}")


def check_choices(config: DataclassInstance) -> None:
    """Raise OptionError where an option of a configuration group is none of its choices, nor left open."""
    for item in fields(config):
        allowed = item.metadata.get("choices")
        value = getattr(config, item.name)
        if allowed and value not in allowed and not (value is None and item.default is None):
            raise OptionError(
                f"{item.name} must be one of {', '.join(allowed)}: {value!r}{did_you_mean(value, allowed)}"
            )


def check_fraction(name: str, value: float) -> None:
    """Raise OptionError unless the value lies between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise OptionError(f"{name} must lie between 0 and 1, both excluded: {value}")


def check_positive(name: str, value: object, *, besides: str | None = None) -> None:
    """Raise OptionError unless the value is None or a whole number of at least 1; `besides` is a word allowed too."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        or_word = f" or `{besides}`" if besides else ""
        raise OptionError(f"{name} must be a whole number of at least 1{or_word}: {value!r}")

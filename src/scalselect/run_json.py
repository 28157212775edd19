"""run.json: what a run is. What must stand in it, and whether a call means the same run."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from scalselect.config import RepresentConfig, ScoreConfig, SelectConfig, select_config
from scalselect.errors import RunFolderError
from scalselect.seals import SEAL_KEY, has_seal, is_whole
from scalselect.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_POSITIVE = ("rows", "shard_size", "threads")
_MOST_ROWS = 10**12  # more than any pool; what would take for ever is not begun
_MOST_THREADS = 2**15  # what a library of matrices is told is a C integer
_TEXTS = ("data_sha256", "data_format")
_OBJECT_OR_NONE = ("score", "select", "select_again", "versions")
_TEXT_OR_NONE = ("model", "chat_template", "model_commit", "remote_code", "created")


def parse_run_json(encoded: bytes) -> dict[str, Any]:
    """Return the content of a run.json, its seal apart.

    One without a seal, as somebody leaves it who edits it on purpose, counts if everything in it can be right.

    Raises
    ------
    ValueError
        In words: it was changed, or something in it cannot be right.
    """
    if has_seal(encoded) and not is_whole(encoded):
        raise ValueError("it was changed since it was written")
    try:
        content = json.loads(encoded)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")  # noqa: TRY004  a file of another content, not a value of a wrong type
    content.pop(SEAL_KEY, None)
    for name in ("represent", "data"):
        _check(name, content.get(name), dict)
    for name in _OBJECT_OR_NONE:
        _check(name, content.get(name), dict, None)
    for name in _TEXT_OR_NONE:
        _check(name, content.get(name), str, None)
    if "path" not in content["data"]:
        raise ValueError("data has no `path`")
    for name in ("path", "source"):
        _check(f"data.{name}", content["data"].get(name), str, None)
    _check_represent(content["represent"])
    _check_segments(content)
    _check_options("score", ScoreConfig, content.get("score") or {})
    for name in ("select", "select_again"):
        _check_choice(name, content.get(name))
    return content


def _check(name: str, value: Any, *kinds: type | None) -> None:
    if value is None and None in kinds:
        return
    wanted = tuple(kind for kind in kinds if kind is not None)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise ValueError(f"`{name}` cannot be {value!r:.60}")


def _check_represent(represent: dict[str, Any]) -> None:
    for name in _POSITIVE:
        _check(f"represent.{name}", represent.get(name), int)
        if represent[name] < 1:
            raise ValueError(f"`represent.{name}` cannot be {represent[name]}")
    if represent["threads"] > _MOST_THREADS:
        raise ValueError(f"`represent.threads` cannot be {represent['threads']}")
    for name in _TEXTS:
        _check(f"represent.{name}", represent.get(name, ""), str)
    for name in ("data_bytes", "data_records"):
        _check(f"represent.{name}", represent.get(name, 0), int)
    if "representations" in represent:
        return  # of vectors made elsewhere: there are no options
    _check_options("represent", RepresentConfig, represent)


def _check_segments(content: dict[str, Any]) -> None:
    _check("segments", content.get("segments"), list, None)
    _check("represent.data_sets", content["represent"].get("data_sets"), list, None)
    try:
        segments = segments_of(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`segments` cannot be right ({type(error).__name__}: {error})") from error
    first_row = first_shard = 0
    names = {segment.source.casefold() for segment in segments if isinstance(segment.source, str)}
    if len(segments) > 1 and (len(names) < len(segments) or not all(map(_is_file_name, names))):
        raise ValueError("`segments.source` must be names of files, each another one")
    for segment in segments:
        for name in ("rows", "first_row", "first_shard", "shard_size"):
            _check(f"segments.{name}", getattr(segment, name), int)
        for name in ("path", "source", "images", "data_sha256", "data_format"):
            _check(f"segments.{name}", getattr(segment, name), str, None)
        _check("segments.data_records", segment.data_records, int, None)
        _check("segments.mapping", segment.mapping, dict, None)
        if segment.rows > min(_MOST_ROWS, segment.data_records or _MOST_ROWS):
            raise ValueError(f"rows cannot be {segment.rows}, of {segment.data_records} records")
        if min(segment.rows, segment.shard_size) < 1 or (segment.first_row, segment.first_shard) != (
            first_row,
            first_shard,
        ):
            raise ValueError("`segments` do not follow one another")
        first_row, first_shard = segment.stop_row, segment.shards.stop


def _is_file_name(name: str) -> bool:
    """Tell whether a file in `selected/` can have this name, and lies there."""
    return name not in {"", ".", ".."} and not any(char in name for char in "/\\\0")


def _check_options(name: str, group: Callable[..., Any], recorded: Mapping[str, Any]) -> None:
    known = {item.name for item in fields(cast("type[RepresentConfig]", group))}
    try:
        group(**{option: value for option, value in recorded.items() if option in known})
    except Exception as error:  # checks of values meet types that no option has
        raise ValueError(f"{name}: {error}") from error


def _check_choice(name: str, recorded: dict[str, Any] | None) -> None:
    if recorded is None:
        return
    known = {item.name for item in fields(SelectConfig)}
    lists = recorded.get("lists", {})
    _check(f"{name}.lists", lists, dict)
    for option, value in lists.items():
        _check(f"{name}.lists.{option}", value, str)
        _check(f"{name}.{option}", recorded.get(option), str)
    try:
        select_config({option: value for option, value in recorded.items() if option in known})
    except Exception as error:
        raise ValueError(f"{name}: {error}") from error


def refuse_other_keys(recorded: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, *, note: str = "") -> None:
    """Raise RunFolderError naming every key that differs, with both values, and `note` where it is given."""
    different = [
        f"  {name}: {_shown(recorded.get(name))} in the run folder, {_shown(wanted.get(name))} in this call"
        for name in sorted({*recorded, *wanted})
        if recorded.get(name) != wanted.get(name)
    ]
    if different:
        raise RunFolderError(
            f"run folder belongs to another run: {path}\n"
            + "\n".join(different)
            + (f"\n  ({note})" if note else "")
            + "\nuse another output folder, or call with the same values"
        )


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)

"""Files that list rows or ids, and quotas: what a user asks of a selection beyond options."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scalselect.errors import OptionError, did_you_mean
from scalselect.storage import sha256_of_bytes

LISTS = ("include_rows", "include_ids", "exclude_rows", "exclude_ids", "quotas")  # options that may be files
KNOWN_QUOTAS: tuple[Literal["proportional"], Literal["equal"]] = ("proportional", "equal")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.selection.quotas import Quotas


def listed(option: str, given: str | Sequence[object] | None) -> list[str]:
    """Return what a file, or a list, names: one text for each entry.

    Parameters
    ----------
    option
        Name of the option, for messages.
    given
        Path of a file: one entry a line, blank lines apart, or, where its name ends in `.json`, a JSON list; or the
        entries themselves.

    Returns
    -------
    Entries as text; of a number its JSON text.

    Raises
    ------
    OptionError
        The file cannot be read, or holds no list.
    """
    if given is None:
        return []
    if not isinstance(given, str):
        return [entry if isinstance(entry, str) else str(entry) for entry in given]
    text = _text(option, given)
    if not given.endswith(".json"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        entries = json.loads(text, parse_int=str, parse_float=str)
    except ValueError as error:
        raise OptionError(f"{option}: {given} is not valid JSON ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise OptionError(f"{option}: {given} must hold a JSON list of strings or numbers")
    return entries


def listed_rows(option: str, given: str | Sequence[object] | None, pool_rows: int) -> list[int]:
    """Return the row positions that a file, or a list, names. Raises OptionError for what is none of the pool's."""
    rows = []
    for entry in listed(option, given):
        if not entry.isdecimal() or int(entry) >= pool_rows:
            where = f" in {given}" if isinstance(given, str) else ""
            raise OptionError(f"{option} must hold row positions from 0 to {pool_rows - 1}: {entry!r}{where}")
        rows.append(int(entry))
    return rows


def read_quotas(given: str) -> Quotas:
    """Return `proportional` or `equal` as given, or the numbers by stratum of a JSON or TOML file.

    Raises
    ------
    OptionError
        The file cannot be read, or holds something else.
    """
    for word in KNOWN_QUOTAS:
        if given == word:
            return word
    wanted = 'wanted: `proportional`, `equal`, or a file with a number for each group, such as {"vqa": 0.7, "ocr": 0.3}'
    if not Path(given).is_file():
        raise OptionError(f"quotas: there is no file {given}{did_you_mean(given, KNOWN_QUOTAS)} ({wanted})")
    text, kind = _text("quotas", given), "TOML" if given.endswith(".toml") else "JSON"
    try:
        content: Any = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except ValueError as error:
        raise OptionError(f"quotas: {given} is not valid {kind} ({error}; {wanted})") from error
    if not isinstance(content, dict) or not content:
        raise OptionError(f"quotas: {given} holds no object ({wanted})")
    for name, number in content.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise OptionError(f"quotas: {given} holds {number!r} for {name!r}, where a number is wanted")
    return content


def digest_of(option: str, given: str | Sequence[object] | None) -> str | None:
    """Return a hash of what a list says, so that an edited file is another request; None where nothing is given."""
    if given is None or given in KNOWN_QUOTAS:
        return None
    if option == "quotas" and isinstance(given, str):
        read_quotas(given)
    content = _text(option, given) if isinstance(given, str) else json.dumps([str(entry) for entry in given])
    return sha256_of_bytes(content.encode())


def _text(option: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise OptionError(f"{option} cannot be read: {path} ({why})") from error

"""One text that means several files: brace patterns such as `{00000..00002}`, and globs with `*`, `?` or `[...]`."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from pathlib import Path

from braceexpand import braceexpand

from scalselect.errors import DatasetError, did_you_mean
from scalselect.remote_files import filesystem, key_of, told_as_os_errors

_URL = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")


def is_pattern(text: str) -> bool:
    """Tell whether a path means several files: it has braces or glob characters, and no file has it as its name."""
    return bool(_BRACES.search(text) or glob.has_magic(text)) and not (not _URL.match(text) and os.path.lexists(text))


def expand(pattern: str) -> list[str]:
    """Return the paths that a pattern means, those of braces in the order written, those of a glob sorted by name.

    Braces are expanded as shells and `webdataset` do: `{000..012}`, `{train,val}`. A path without braces and glob
    characters, or one that exists as it is, means itself.

    Parameters
    ----------
    pattern
        A local path, or a URL in an object store.

    Raises
    ------
    DatasetError
        Nothing matches, a file is missing or named twice, or braces are not balanced.
    OSError
        A store cannot be asked; see `scalselect.remote_files.told_as_os_errors`.
    OptionError
        The protocol is unknown, or what it needs is not installed.
    """
    if not is_pattern(pattern):
        return [pattern]
    paths: list[str] = []
    for text in _braces_expanded(pattern):
        paths += _files(text, pattern)
    repeated = [path for path, times in Counter(paths).items() if times > 1]
    if repeated:
        raise DatasetError(f"data pattern names a file more than once: {pattern} ({repeated[0]})")
    return paths


def _braces_expanded(pattern: str) -> list[str]:
    try:
        return list(braceexpand(pattern, escape=False))
    except ValueError:
        raise DatasetError(f"data pattern has braces that are not closed: {pattern}") from None


def _files(text: str, pattern: str) -> list[str]:
    if _URL.match(text):
        return _remote_files(text) if glob.has_magic(text) else [text]
    if glob.has_magic(text) and not os.path.lexists(text):
        found = sorted(glob.glob(text))  # noqa: PTH207  keeps a relative pattern relative, and its spelling
        if not found:
            raise DatasetError(f"no file matches: {text}{_near(text)}")
        return found
    if not os.path.lexists(text):
        of = "" if text == pattern else f" (of {pattern})"
        raise DatasetError(f"data file does not exist: {text}{of}{_near(text)}")
    return [text]


def _remote_files(text: str) -> list[str]:
    """Return what a store has of a glob, as a shell would on a disk: no hidden files unless they are asked for."""
    with told_as_os_errors(text):
        found = filesystem(text).glob(key_of(text), detail=True)
    protocol, hidden = text.partition("://")[0], text.rpartition("/")[2].startswith(".")
    keys = sorted(key for key, facts in found.items() if facts["type"] == "file")
    keys = [key for key in keys if hidden or not key.rpartition("/")[2].startswith(".")]
    if not keys:
        raise DatasetError(f"no file matches: {text}")
    return [f"{protocol}://{key}" for key in keys]


def _near(text: str) -> str:
    path = Path(text)
    try:
        return did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
    except (OSError, ValueError):  # no folder, or one that may not be listed; a NUL byte
        return ""

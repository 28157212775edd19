"""Which files of a repository are the data: those that a path names, else those of the one train split there is."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from braceexpand import braceexpand

from scalselect.dataset.data_folders import ABOUT_DATA, split_of
from scalselect.errors import DatasetError, did_you_mean

DATA_ENDINGS = (".parquet", ".arrow", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".tar")
_SHARD = re.compile(r"[-_.]?\d+(?:[-_]of[-_]\d+)?(?:-[0-9a-f]{16})?$")
_OF = re.compile(r"-(\d{5})-of-(\d{5})")
_TRAIN = ("train", "training")
_SHOWN = 12


def data_files_of(names: list[str], path: str, where: str) -> list[str]:
    """Return the files that are meant, in order.

    Parameters
    ----------
    names
        All files of the repository, sorted.
    path
        A file, a folder or a pattern in it; empty for the whole.
    where
        The location, for messages.

    Raises
    ------
    DatasetError
        No file is meant, several sets of files may be, or some of a numbered set are missing.
    """
    if path in names:
        return [path]
    matched = [name for text in _patterns(path) for name in names if _matches(name, text)] if path else []
    if matched:
        repeated = [name for name, times in Counter(matched).items() if times > 1]
        if repeated:
            raise DatasetError(f"data pattern names a file more than once: {where} ({repeated[0]})")
        return _complete(matched, where)
    inside = [name for name in names if not path or name.startswith(f"{path}/")]
    if not inside:
        raise DatasetError(
            f"data set has no such file or folder: {where}{did_you_mean(path, [*names, *_folders(names)])}"
        )
    return _complete(_of_train_split(inside, where), where)


def _of_train_split(names: list[str], where: str) -> list[str]:
    data = [name for name in names if name.endswith(DATA_ENDINGS) and not ABOUT_DATA.match(PurePosixPath(name).name)]
    if not data:
        kinds = ", ".join(DATA_ENDINGS)
        raise DatasetError(f"data set holds no data files: {where} (looked for {kinds}; it has {_listed(names)})")
    splits = {name: _split(name) for name in data}
    of_train = [name for name in data if splits[name] in _TRAIN]
    candidates = of_train or data
    sets: dict[str, list[str]] = {}
    for name in candidates:
        sets.setdefault(_set_of(name), []).append(name)
    if len(sets) > 1 or (not of_train and any(splits.values())):
        raise DatasetError(
            f"it is not clear which files of the data set are meant: {where} (add one of these: {_listed(list(sets))})"
        )
    return candidates


def _split(name: str) -> str | None:
    """Return the split that a file's name tells, else one of the folders it lies in."""
    path = PurePosixPath(name)
    return split_of(path.name) or next((split for part in path.parts[:-1] if (split := split_of(part))), None)


def _set_of(name: str) -> str:
    """Return the pattern of the files that differ from one in their number alone; its own name where it has none."""
    path = PurePosixPath(name)
    ending = next(ending for ending in sorted(DATA_ENDINGS, key=len, reverse=True) if path.name.endswith(ending))
    stem = path.name.removesuffix(ending)
    cut = _SHARD.sub("", stem)
    return name if cut == stem else str(path.with_name(f"{cut}*{ending}"))


def _complete(names: list[str], where: str) -> list[str]:
    """Return the names. Raises DatasetError where they are numbered `00000-of-00003` and one is missing."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for name in names:
        found = _OF.search(name)
        if found and int(found[1]) < int(found[2]):
            numbers.setdefault((name[: found.start()], found[2]), set()).add(int(found[1]))
    for (stem, total), there in numbers.items():
        if len(there) < int(total) and len(names) > 1:
            missing = min(set(range(int(total))) - there)
            raise DatasetError(f"data set lacks a file: {where} has no {stem}-{missing:05}-of-{total}")
    return names


def _patterns(path: str) -> list[str]:
    try:
        return list(braceexpand(path, escape=False))
    except ValueError:
        raise DatasetError(f"data pattern has braces that are not closed: {path}") from None


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _folders(names: list[str]) -> set[str]:
    return {str(parent) for name in names for parent in PurePosixPath(name).parents if str(parent) != "."}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

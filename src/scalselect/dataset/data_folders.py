"""A folder given as a data set: which files in it are the data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ENDINGS = (".parquet", ".arrow", ".tar")
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(_SPLITS)})(?:[-_.]|$)")


def files_of_folder(folder: Path) -> list[Path]:
    """Return the table files, or else the tars, of a folder, sorted by name; none where it holds none.

    Those of Parquet go before those of Arrow. A folder that has none of them, but whose `data` folder does, means
    that one: so the repositories of a hub lie on disk.

    Raises
    ------
    DatasetError
        The files belong to several splits, or the folder cannot be read.
    """
    for place in (folder, folder / "data"):
        for ending in _ENDINGS:
            found = _files(place, ending)
            if found:
                _refuse_several_splits(place, found, ending)
                return found
    return []


def split_of(name: str) -> str | None:
    """Return the split that the name of a file tells: `train` of `train-00000-of-00003.parquet`; None if none."""
    found = _SPLIT.search(name)
    return found[1] if found else None


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and path.is_file())
    except OSError as error:
        raise DatasetError(f"data folder cannot be read: {folder} ({error.strerror})") from error


def _refuse_several_splits(folder: Path, files: Iterable[Path], ending: str) -> None:
    splits = sorted({split for path in files if (split := split_of(path.name)) is not None})
    if len(splits) > 1:
        ways = " or ".join(f"`{folder}/{split}*{ending}`" for split in splits)
        raise DatasetError(f"data folder holds several splits, {', '.join(splits)}: {folder} (give one: {ways})")

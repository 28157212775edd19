"""A folder given as a data set: which files in it are the data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ABOUT_DATA = re.compile(r"((.*[-_.])?(dataset_infos?|dataset_dict|state|config)|\..*)\.json$")  # of a file's name
_KINDS = {
    "Parquet": (".parquet",),
    "Arrow": (".arrow", ".feather", ".ipc"),
    "tar": (".tar",),
    "JSON": (".json", ".jsonl", ".json.gz", ".jsonl.gz"),
}
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(_SPLITS)})(?:[-_.]|$)")


def files_of_folder(folder: Path) -> list[Path]:
    """Return the table files, or the tars, of a folder, sorted by name; none where it holds none.

    A folder that has none of them, but whose `data` folder does, means that one: so the repositories of a hub lie on
    disk.

    Raises
    ------
    DatasetError
        The files are of several kinds (JSON among them) or belong to several splits, or the folder cannot be read.
    """
    found = [
        (place, kind, _files(place, endings)) for place in (folder, folder / "data") for kind, endings in _KINDS.items()
    ]
    found = [(place, kind, files) for place, kind, files in found if files]
    tables = [files for _, kind, files in found if kind != "JSON"]
    if not tables:
        return []
    if len(found) > 1:
        kinds = ", ".join(f"{kind} ({files[0].relative_to(folder)})" for _, kind, files in found)
        ways = " or ".join(f"`{place}/*{_ending(files[0])}`" for place, _, files in found)
        raise DatasetError(f"data folder holds data of several kinds, {kinds}: {folder} (give those meant: {ways})")
    _refuse_several_splits(found[0][0], tables[0])
    return tables[0]


def split_of(name: str) -> str | None:
    """Return the split that the name of a file tells: `train` of `train-00000-of-00003.parquet`; None if none."""
    found = _SPLIT.search(name)
    return found[1] if found else None


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        inside = [path for path in folder.iterdir() if path.name.endswith(endings) and path.is_file()]
    except OSError as error:
        raise DatasetError(f"data folder cannot be read: {folder} ({error.strerror})") from error
    return sorted(path for path in inside if not ABOUT_DATA.match(path.name) and not path.name.startswith("."))


def _ending(path: Path) -> str:
    name = path.name
    return next(ending for endings in _KINDS.values() for ending in endings if name.endswith(ending))


def _refuse_several_splits(folder: Path, files: Sequence[Path]) -> None:
    splits = sorted({split for path in files if (split := split_of(path.name)) is not None})
    if len(splits) > 1:
        ways = " or ".join(f"`{folder}/{split}*{_ending(files[0])}`" for split in splits)
        raise DatasetError(f"data folder holds several splits, {', '.join(splits)}: {folder} (give one: {ways})")

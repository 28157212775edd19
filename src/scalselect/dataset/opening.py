"""Open a data set as a pool: what its records are kept in, which format they are in, where its images lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from scalselect.config import ImagePosition
from scalselect.dataset.containers import folder_of, name_of, open_records
from scalselect.dataset.formats import choose_format
from scalselect.dataset.pool import Pool
from scalselect.errors import DatasetError, OptionError, did_you_mean
from scalselect.hub_locations import pinned
from scalselect.remote_files import is_remote
from scalselect.remote_path import as_remote, path_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalselect.dataset.python_dataset import DatasetLike


def open_pool(
    data: str | Path | Sequence[Mapping[str, object]] | DatasetLike,
    *,
    name: str | None = None,
    format: str = "auto",  # noqa: A002  the name of the option
    images: str | Path | None = None,
    image_position: str = "record",
    limit: int | None = None,
    allow_remote_images: bool = False,
    confine_images: bool | None = None,
    mapping: Mapping[str, Any] | None = None,
) -> Pool:
    """Open a data set as a pool. Records are read later, one by one.

    Parameters
    ----------
    data
        Path, pattern or URL of the data, a list of records, or a `datasets.Dataset`; see docs/containers.md.
    name
        Name of the data set; default: see `name_of`; `records` for a list or a `datasets.Dataset`.
    format
        A record format by name, or `auto`: the one that most of the first 100 records are in; see docs/formats.md.
    images
        Folder that image paths are relative to; default: see `folder_of`; the working directory for a list.
    image_position
        `record` or `turn-start`.
    limit
        Only the first rows; as many as there are, or more, means all.
    allow_remote_images
        Whether images at web addresses are fetched.
    confine_images
        Whether images must lie in the image folder, wherever links lead; None: see `confined_by_default`.
    mapping
        `formatting`, `columns` and `tags` of the records, as an entry of LLaMA-Factory's `dataset_info.json` has them.

    Raises
    ------
    DatasetError
        The data file or the image folder cannot be used as a whole.
    OptionError
        An option has an impossible value.
    """
    positions = get_args(ImagePosition)
    if image_position not in positions:
        near = did_you_mean(str(image_position), positions)
        raise OptionError(f"image_position must be one of {', '.join(positions)}: {image_position!r}{near}")
    check_limit(limit)
    records, location = open_records(data)
    rows = (records.raw(row) for row in range(len(records)))
    return Pool(
        source=name or ("records" if location is None else name_of(location)),
        location=location,
        images=image_folder(images, Path.cwd() if location is None else folder_of(location)),
        image_position=image_position,
        limit=None if limit is not None and limit >= len(records) else limit,
        _records=records,
        _format=choose_format(format, rows, location or "the list", records.first_fault(), mapping),
        allow_remote_images=allow_remote_images,
        confined=confined_by_default(location) if confine_images is None else confine_images,
        mapping=None if mapping is None else dict(mapping),
    )


def confined_by_default(location: str | None) -> bool:
    """Tell whether the records of a data set are taken for a stranger's: those that lie on a hub or in a store."""
    return is_remote(location)


def check_limit(limit: object) -> None:
    """Raise OptionError where `limit` is neither None nor a whole number of at least 1."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise OptionError(f"limit must be a whole number of at least 1: {limit!r}")


def image_folder(given: str | Path | None, default: Path) -> str:
    """Return the folder that image paths are relative to. Raises DatasetError, OptionError where it is none."""
    if given is None:
        return str(default) if as_remote(default) else os.path.realpath(default)
    if given == "":  # a Path would make it the working directory
        raise OptionError("images is empty (wanted: the folder that image paths are relative to)")
    if isinstance(given, str) and is_remote(given):
        return _remote_image_folder(given)
    folder = Path(given).absolute()
    try:
        if folder.is_dir():
            return os.path.realpath(folder)  # one folder, one spelling: it is a key of the run
        problem = "is no folder" if folder.exists() else "does not exist"
        near = did_you_mean(folder.name, (entry.name for entry in folder.parent.iterdir() if entry.is_dir()))
    except (OSError, ValueError):  # a folder that may not be listed, a NUL byte
        problem, near = "does not exist", ""
    raise DatasetError(f"image folder {problem}: {folder}{near}")


def _remote_image_folder(folder: str) -> str:
    try:
        folder = pinned(folder)
        is_folder = path_of(folder).is_dir()
    except PermissionError:  # images may be readable in a bucket that may not be listed
        is_folder = True
    except OSError as error:
        raise DatasetError(f"image folder cannot be read: {folder} ({error.strerror})") from error
    if not is_folder:
        raise DatasetError(f"image folder does not exist, or nothing lies in it: {folder}")
    return folder

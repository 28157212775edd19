"""Remote data as local copies: of a file, of the files that a pattern or a folder means, of a saved data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scalselect.dataset.data_files import CONTAINERS_READ
from scalselect.dataset.data_folders import files_of_folder
from scalselect.dataset.path_patterns import expand, is_pattern
from scalselect.dataset.saved_dataset import is_saved
from scalselect.errors import DatasetError
from scalselect.hub_locations import pinned
from scalselect.local_copies import local_copies
from scalselect.remote_path import path_of

if TYPE_CHECKING:
    from pathlib import Path


class DataCopy(NamedTuple):
    """A local copy, and what it is a copy of."""

    path: Path
    location: str


def copies_of_data(location: str) -> tuple[str, list[DataCopy]]:
    """Return a remote location as a run keeps it, and local copies of the files that it means, in their order.

    Raises
    ------
    DatasetError
        Nothing lies there, or it cannot be read.
    DataChangedError
        A file was written to while it was copied.
    OptionError
        The protocol is unknown, or what it needs is not installed.
    """
    try:
        location = pinned(location)
        return location, _copies(location)
    except FileNotFoundError as error:
        raise DatasetError(f"data file does not exist: {error.filename} ({error.strerror})") from None
    except OSError as error:
        raise DatasetError(f"data file cannot be read: {location} ({error.strerror or error})") from error


def _copies(location: str) -> list[DataCopy]:
    path = path_of(location)
    if is_pattern(location):
        places = expand(location)
    elif not path.is_dir():
        places = [location]
    elif is_saved(path):
        files = sorted(str(file) for file in path.iterdir() if file.is_file())
        return [DataCopy(local_copies(files)[0].parent, location)]
    else:
        places = [str(file) for file in files_of_folder(path)]
        if not places:
            raise DatasetError(
                f"data file is a folder: {location} (wanted: a file of {CONTAINERS_READ}, "
                "or a folder of one of the last three kinds)"
            )
    return [*map(DataCopy, local_copies(places), places)]

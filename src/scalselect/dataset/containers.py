"""What records are kept in, recognised by looking: opens data files, or a list of records, as a `RecordSource`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.dataset.arrow_records import is_arrow, open_arrow
from scalselect.dataset.data_folders import files_of_folder
from scalselect.dataset.gzip_records import GzipRecordFile, begins_as_gzip
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.parquet_records import is_parquet, open_parquet
from scalselect.dataset.path_patterns import expand, is_pattern
from scalselect.dataset.python_dataset import PythonDataset, is_of_datasets
from scalselect.dataset.record_list import RecordList
from scalselect.dataset.saved_dataset import is_saved, open_saved
from scalselect.dataset.tar_index import begins_as_tar
from scalselect.dataset.tar_records import open_tars
from scalselect.errors import DatasetError, ScalselectError
from scalselect.hub_locations import pinned
from scalselect.local_copies import local_copy
from scalselect.remote_files import is_remote
from scalselect.remote_path import path_of

if TYPE_CHECKING:
    from scalselect.dataset.record_source import RecordSource

    Container = tuple[Callable[[Path], bool], Callable[[Sequence[Path]], RecordSource]]

# What tells from the first file that its kind is meant, and what opens all of them. JSON is whatever is left.
_CONTAINERS: tuple[Container, ...] = (
    (is_saved, open_saved),
    (begins_as_gzip, lambda paths: GzipRecordFile(_only(paths))),
    (is_parquet, open_parquet),
    (is_arrow, open_arrow),
    (begins_as_tar, open_tars),
)
_FROM_PATTERN = re.compile(r"[-_.]*[{*?\[].*", re.DOTALL)


def open_records(data: object) -> tuple[RecordSource, str | None]:
    """Return the records of a data file or list, whatever they are kept in, and where they lie. Raises DatasetError."""
    if isinstance(data, str) and is_remote(data):
        return _open_remote(data)
    if isinstance(data, (str, os.PathLike)):
        path = Path(os.fsdecode(data)).absolute()  # workers may stand in another folder
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DatasetError(f"the data file's path is not valid UTF-8, rename it: {str(path)!r}") from None
        return _open_files(path), str(path)
    if is_of_datasets(data):
        return PythonDataset(data), None
    if isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray, memoryview)):
        return RecordList(data), None
    raise DatasetError(
        f"data must be a datasets.Dataset, the path of a file or a list of records: {type(data).__name__}"
    )


def data_exist(location: str) -> bool:
    """Tell whether anything lies at the place of a data set. Raises OSError where a store cannot be asked."""
    if is_remote(location):
        return path_of(location).exists()
    if not is_pattern(location):
        return Path(location).exists()
    try:
        return bool(expand(location))
    except DatasetError:
        return False


def name_of(location: str) -> str:
    """Return what a data set is called after the place of its data: a file's stem, a folder's name.

    A pattern is called by what stands before its first brace or `*`, else by its folder.
    """
    path = Path(location)
    if is_pattern(location):
        return _FROM_PATTERN.sub("", path.name) or path.parent.name
    if path.is_dir():
        return path.name
    return path.stem.removesuffix(".json").removesuffix(".jsonl") if path.suffix == ".gz" else path.stem


def folder_of(location: str) -> Path:
    """Return the folder that data lie in: of a folder itself."""
    path = path_of(location)
    return path if path.is_dir() else path.parent


def _open_files(path: Path) -> RecordSource:
    paths = [Path(text) for text in expand(str(path))]
    if len(paths) == 1 and paths[0].is_dir() and not is_saved(paths[0]):
        paths = files_of_folder(paths[0]) or paths
    for is_kind, open_kind in _CONTAINERS:
        if is_kind(paths[0]):
            return open_kind(paths)
    return RecordFile(_only(paths))


def _only(paths: Sequence[Path]) -> Path:
    """Return the file of a data set that can be but one. Raises DatasetError."""
    if len(paths) > 1:
        raise DatasetError(
            f"several JSON files are several data sets: {paths[0]} and {len(paths) - 1} more (give each of them)"
        )
    return paths[0]


def _open_remote(location: str) -> tuple[RecordSource, str]:
    """Open a local copy of a remote data file. Raises DatasetError, and what opening the copy raises."""
    try:
        location = pinned(location)
        copy = local_copy(location)
    except FileNotFoundError as error:
        raise DatasetError(f"data file does not exist: {location} ({error.strerror})") from None
    except IsADirectoryError:
        raise DatasetError(f"data file is a folder: {location} (wanted: one file)") from None
    except OSError as error:
        raise DatasetError(f"data file cannot be read: {location} ({error.strerror or error})") from error
    try:
        return open_records(copy)[0], location
    except ScalselectError as error:
        raise type(error)(str(error).replace(str(copy), location)) from error

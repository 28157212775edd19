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
from scalselect.dataset.hub_choice import DATA_ENDINGS
from scalselect.dataset.hub_data import download_data, hub_place, is_hub_data
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.parquet_records import is_parquet, open_parquet
from scalselect.dataset.path_patterns import expand, is_pattern
from scalselect.dataset.python_dataset import PythonDataset, is_of_datasets
from scalselect.dataset.record_list import RecordList
from scalselect.dataset.remote_data import copies_of_data
from scalselect.dataset.saved_dataset import is_saved, open_saved
from scalselect.dataset.tar_index import begins_as_tar
from scalselect.dataset.tar_records import open_tars
from scalselect.errors import DatasetError, ScalselectError
from scalselect.hub_locations import unpinned_name
from scalselect.printable import printable_line
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
_FILE_URL = re.compile(r"file:(?://(?:localhost(?=/))?)?(?=/)", re.IGNORECASE)
_HUB = re.compile("hf://", re.IGNORECASE)
_FROM_PATTERN = re.compile(r"[-_.]*[{*?\[].*", re.DOTALL)


def open_records(data: object) -> tuple[RecordSource, str | None]:
    """Return the records of a data file or list, whatever they are kept in, and where they lie. Raises DatasetError."""
    if isinstance(data, str) and _HUB.match(data):  # a model is refused there, before any network
        return _open_hub(data)
    if isinstance(data, str):
        data = _FILE_URL.sub("", data)
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
    if is_hub_data(location):  # opening it tells what is gone, and asks no hub for what is in the cache
        return True
    if is_remote(location):
        return is_pattern(location) or path_of(location).exists()  # a file that is gone is told when it is copied
    if not is_pattern(location):
        return Path(location).exists()
    try:
        return bool(expand(location))
    except DatasetError:
        return False


def name_of(location: str) -> str:
    """Return what a data set is called after the place of its data: a file's stem, a folder's name.

    A pattern is called by what stands before its first brace or `*`, else by its folder; a whole repository of a hub
    by its name. It may become the name of a file: what no name should hold is spelled out or left out.
    """
    name = re.sub(r"[/\\]", "_", printable_line(_called(location)))
    return name if name.strip(".") else "data"  # a folder may be given as `..`


def _called(location: str) -> str:
    on_hub = is_hub_data(location)
    path = path_of(hub_place(location).path or hub_place(location).repository) if on_hub else path_of(location)
    if is_pattern(str(path)):
        return _FROM_PATTERN.sub("", path.name) or path.parent.name
    if path.name.endswith(DATA_ENDINGS) if on_hub else not path.is_dir():  # on a hub nobody looks
        return path.stem.removesuffix(".json").removesuffix(".jsonl") if path.suffix == ".gz" else path.stem
    return unpinned_name(path.name)


def folder_of(location: str) -> Path:
    """Return the folder that data lie in: of a folder itself, of data on a hub their repository."""
    if is_hub_data(location):
        return path_of(hub_place(location).root)
    path = path_of(location)
    return path if path.is_dir() else path.parent


def _open_files(path: Path) -> RecordSource:
    paths = [Path(text) for text in expand(str(path))]
    if len(paths) == 1 and paths[0].is_dir() and not is_saved(paths[0]):
        paths = files_of_folder(paths[0]) or paths
    return _open_paths(paths)


def _open_paths(paths: Sequence[Path]) -> RecordSource:
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


def _open_hub(location: str) -> tuple[RecordSource, str]:
    """Open what was downloaded of a data set on a hub; the location returned names the commit. Raises DatasetError."""
    files = download_data(location)
    try:
        return _open_paths(files.paths), str(files.place)
    except ScalselectError as error:
        raise type(error)(str(error).replace(str(files.folder), files.place.root)) from error


def _open_remote(location: str) -> tuple[RecordSource, str]:
    """Open local copies of remote data. Raises DatasetError, OptionError, and what opening the copies raises."""
    location, copies = copies_of_data(location)
    try:
        return _open_paths([copy.path for copy in copies]), location
    except ScalselectError as error:
        told = str(error)
        for copy in copies:
            told = told.replace(str(copy.path), copy.location)
        raise type(error)(told) from error

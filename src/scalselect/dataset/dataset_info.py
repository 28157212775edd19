"""LLaMA-Factory's `dataset_info.json`: the data sets it names, where their files lie, what it says of their records."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.dataset.dataset_info_format import resolved_mapping
from scalselect.dataset.record_fields import shown
from scalselect.errors import DatasetError, OptionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE_NAME = "dataset_info.json"
_NOT_READ = {
    "script_url": "a loading script",
    "ms_hub_url": "a data set of the ModelScope hub",
    "om_hub_url": "a data set of the OpenMind hub",
}


@dataclass(frozen=True, slots=True)
class DatasetInfoEntry:
    """One data set of a `dataset_info.json`.

    Attributes
    ----------
    name
        Its name there.
    folder
        Folder of the `dataset_info.json`: relative file names, and images unless a `media_dir` is given, lie in it.
    entry
        What the file says of it.
    """

    name: str
    folder: str
    entry: Mapping[str, Any]

    @property
    def num_samples(self) -> int | None:
        """How many rows LLaMA-Factory draws at random from the data set; here all are read."""
        number = self.entry.get("num_samples")
        return number if isinstance(number, int) else None

    def mapping(self) -> dict[str, Any]:
        """Return `formatting`, `columns` and `tags`, defaults filled in. Raises OptionError; see `resolved_mapping`."""
        return resolved_mapping(self.entry, self._where)

    def files(self) -> list[str]:
        """Return the data files, in the order of their names where a folder is named: absolute paths, or one URL.

        Raises
        ------
        OptionError
            The entry names no file, or a kind of source that is not read here.
        DatasetError
            Its file or folder is not there, or the folder is empty.
        """
        entry = self.entry
        if "hf_hub_url" in entry:
            return [self._on_the_hub()]
        for key, what in _NOT_READ.items():
            if key in entry:
                raise OptionError(f"{self._where} is {what}, which is not read: {key} = {shown(entry[key])}")
        if "cloud_file_name" in entry:
            return [self._text("cloud_file_name")]
        path = Path(os.path.join(self.folder, self._text("file_name")))  # noqa: PTH118  an absolute name wins
        if path.is_dir():
            files = sorted(str(inside) for inside in path.iterdir() if inside.is_file())
            if not files:
                raise DatasetError(f"the folder that {self._where} names is empty: {path}")
            return files
        if not path.is_file():
            near = did_you_mean(path.name, _names_in(path.parent))
            raise DatasetError(f"the data file that {self._where} names does not exist: {path}{near}")
        return [str(path)]

    def _on_the_hub(self) -> str:
        for key, usual in (("subset", None), ("split", "train")):
            value = self.entry.get(key)
            if value not in (None, usual):
                advice = "wanted: the data set's files by name, hf://datasets/OWNER/NAME/FILE"
                raise OptionError(
                    f"{self._where} names a {key}, which cannot be told from files: {shown(value)} ({advice})"
                )
        folder = [self._text("folder").strip("/")] if self.entry.get("folder") else []
        return "/".join(["hf://datasets", self._text("hf_hub_url").strip("/"), *folder])

    @property
    def _where(self) -> str:
        return f"entry `{self.name}` of {_FILE_NAME}"

    def _text(self, key: str) -> str:
        value = self.entry.get(key)
        if not isinstance(value, str) or not value:
            raise OptionError(f"{self._where} needs a `{key}`: {shown(value)}")
        return value


def read_dataset_info(path: str | Path) -> dict[str, DatasetInfoEntry]:
    """Return the entries of a `dataset_info.json`, or of the one in a folder, by name.

    Raises
    ------
    DatasetError
        The file cannot be read, or is not a JSON object of objects.
    """
    file = Path(path).absolute()
    if file.is_dir():
        file /= _FILE_NAME
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{_FILE_NAME} cannot be read: {file} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{_FILE_NAME} is no JSON: {file} ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{_FILE_NAME} must be an object, an entry for each data set: {file}")
    for name, entry in content.items():
        if not isinstance(entry, dict):
            raise DatasetError(f"{_FILE_NAME} must have an object for each data set: {file} ({name}: {shown(entry)})")
    return {name: DatasetInfoEntry(name, str(file.parent), entry) for name, entry in content.items()}


def dataset_info_entry(path: str | Path, name: str) -> DatasetInfoEntry:
    """Return the entry of that name.

    Raises
    ------
    OptionError
        There is none.
    DatasetError
        The file cannot be read; see `read_dataset_info`.
    """
    entries = read_dataset_info(path)
    if name not in entries:
        known = did_you_mean(name, entries) or f" (it has {', '.join(sorted(entries)[:12]) or 'none'})"
        raise OptionError(f"no data set of that name in {_FILE_NAME}: {name!r}{known}")
    return entries[name]


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []

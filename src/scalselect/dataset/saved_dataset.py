"""A folder that `save_to_disk` of HF `datasets` wrote, and the chosen rows as another one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from scalselect.dataset.arrow_records import ArrowTable
from scalselect.dataset.record_source import WrittenFile
from scalselect.dataset.table_columns import check_same_columns
from scalselect.dataset.table_records import TableRecords
from scalselect.errors import DatasetError
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Tell whether a folder is one that `save_to_disk` wrote, of one split or of several."""
    return (folder / _SPLITS).is_file() or (folder / _STATE).is_file()


class SavedDataset(TableRecords):
    """The records of a saved data set, in the order of its state.

    Raises
    ------
    DatasetError
        The folder holds several splits, its state cannot be read or names rows in another order, or a file is missing
        or damaged.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / _SPLITS).is_file():
            named = _content(folder / _SPLITS).get("splits")
            splits = named if named and isinstance(named, list) else ["train"]
            ways = " or ".join(f"`{folder / str(split)}`" for split in splits)
            raise DatasetError(f"data folder holds splits of a saved data set: {folder} (give {ways})")
        self._folder = folder
        self._state = _content(folder / _STATE)
        self._info = _content(folder / _INFO) if (folder / _INFO).is_file() else None
        if any(self._state.get(key) for key in self._state if key.startswith("_indices")):
            raise DatasetError(
                f"saved data set has its rows in another order than its files, by indices: {folder} (save it again "
                "after `flatten_indices()`)"
            )
        try:
            names = [str(file["filename"]) for file in self._state["_data_files"]]
        except (KeyError, TypeError) as error:
            raise DatasetError(f"saved data set names no data files: {folder / _STATE}") from error
        outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
        if outside:  # it would be read there, and written beside the subset
            raise DatasetError(f"saved data set names a file outside of its folder: {folder / _STATE} ({outside[0]})")
        tables = [ArrowTable(folder / name) for name in names]
        check_same_columns((table.file.path, table.schema) for table in tables)
        super().__init__(tables, container="saved", title="a saved data set", ending="")

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write some records as a folder that `datasets.load_from_disk` reads, with as many data files as before."""
        target.mkdir(parents=True, exist_ok=True)
        written = self.write_files(rows, target, self._folder)
        if self._info is not None:
            publish_bytes(target / _INFO, _text(self._info_of([file.records for file in written], written)))
        chosen = hashlib.sha256(f"{self._state.get('_fingerprint')} {list(rows)}".encode("utf-8", "replace"))
        publish_bytes(target / _STATE, _text({**self._state, "_fingerprint": chosen.hexdigest()[:16]}))
        others = [_STATE] if self._info is None else [_INFO, _STATE]
        return [*written, *(WrittenFile(target / name, 0) for name in others)]

    def _info_of(self, records: list[int], written: Sequence[WrittenFile]) -> dict[str, Any]:
        """Return dataset_info.json with the numbers of the subset wherever it tells numbers of the split."""
        info = json.loads(json.dumps(self._info))
        splits, name = info.get("splits"), self._state.get("_split")
        split = splits.get(name) if isinstance(splits, dict) and isinstance(name, str) else None
        if not isinstance(split, dict):
            return dict(info)
        now = {
            "num_examples": sum(records),
            "num_bytes": sum(file.path.stat().st_size for file in written),
            "shard_lengths": records,
        }
        before = _number(split.get("num_bytes"))
        split.update({name: value for name, value in now.items() if split.get(name) is not None})
        for name in ("dataset_size", "size_in_bytes"):
            if info.get(name) is not None:
                info[name] = _number(info[name]) + _number(split.get("num_bytes")) - before
        return dict(info)


def open_saved(paths: Sequence[Path]) -> SavedDataset:
    """Return the records of a saved data set. Raises DatasetError."""
    return SavedDataset(Path(paths[0]))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"saved data set cannot be read: {path} ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"saved data set cannot be read: {path} (no object)")
    return content


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()

"""The pool: all records of one data file or Python list, read as samples in pool order by range of rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from scalselect.config import ImagePosition
from scalselect.dataset.conversations import hash_of_turns, read_conversation
from scalselect.dataset.formats import RecordFormat, choose_format, image_reference, refuse_other_media
from scalselect.dataset.json_records import RecordFile
from scalselect.dataset.record_fields import record_fields, row_identity
from scalselect.dataset.record_list import RecordList
from scalselect.errors import DatasetError, OptionError, SampleError, did_you_mean
from scalselect.records import RowIdentity, Sample, UnusableRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from scalselect.dataset.record_fields import Fields

_ROWS_SEARCHED = 1_000
_CONTAINER_TITLES = {"json": "a JSON array", "jsonl": "JSON Lines"}


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Records to choose from, by row position. Picklable; workers open the data file by themselves.

    Attributes
    ----------
    source
        Stem of the data file's name, or `records` for a Python list.
    path
        The data file, absolute; None for a Python list.
    images
        Folder that relative image paths are relative to, absolute, symbolic links and `..` resolved.
    image_position
        `record` or `turn-start`; see `scalselect.dataset.conversations`.
    limit
        Number of rows looked at, from the first, if there are more; None for all.
    """

    source: str
    path: Path | None
    images: Path
    image_position: str
    limit: int | None
    _records: RecordFile | RecordList
    _format: RecordFormat

    def __len__(self) -> int:
        return self.total_records if self.limit is None else self.limit

    @property
    def total_records(self) -> int:
        """Number of records, whatever the limit."""
        return len(self._records)

    @property
    def format(self) -> str:
        """Name of the record format: `llava` or `messages`."""
        return self._format.name

    @property
    def container(self) -> str:
        """`json` for an array or a Python list, `jsonl` for JSON Lines."""
        return self._records.container

    def read(self, start: int, stop: int) -> Iterator[Sample | UnusableRecord]:
        """Return rows `start` to `stop` (excluded) in pool order, one item for each.

        Raises
        ------
        ValueError
            The range does not lie inside the pool.
        DataChangedError
            While reading: the data file was changed or removed.
        """
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"rows {start} to {stop} do not lie in a pool of {len(self)}")
        return (self._sample(row) for row in range(start, stop))

    def samples_at(self, rows: Iterable[int]) -> Iterator[Sample | UnusableRecord]:
        """Return the given rows, one item for each, in the order given. Raises DataChangedError while reading."""
        return (self._sample(int(row)) for row in rows)

    def in_image_order(self) -> NDArray[np.int64]:
        """Return all rows, those that show the same images next to each other, int64 [rows].

        Groups come in the order of their first row, and the rows of a group in pool order; a row without images, or
        one that cannot be used, is a group of its own. Reads every record once. Raises DataChangedError.
        """
        keys = np.zeros(len(self), dtype=np.uint64)  # [rows]; rows whose keys collide are neighbours, no more
        shown = np.zeros(len(self), dtype=np.bool_)  # [rows]
        for row, sample in enumerate(self.read(0, len(self))):
            if isinstance(sample, Sample) and sample.images:
                keys[row], shown[row] = _image_key(sample), True
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        group = np.where(shown, first[inverse], np.arange(len(self)))  # [rows]
        order: NDArray[np.int64] = np.argsort(group, kind="stable")
        return order

    def raw(self, row: int) -> bytes:
        """Return the record of a row as the bytes it was written with. Raises IndexError outside the pool."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} does not lie in a pool of {len(self)}")
        return self._records.raw(row)

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and `bytes` of the data file (or of the encoded list) and `records`, all of them.

        The hash is that of the file as it was opened, not of what may lie there by now.
        """
        return self._records.fingerprint()

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the data file is no longer the one that was opened."""
        self._records.check_unchanged()

    def images_found(self, first: int = 20) -> tuple[str | None, int]:
        """Look whether the first images of the pool lie where its records say.

        Parameters
        ----------
        first
            Number of image references looked at, at most, among the first 1,000 rows.

        Returns
        -------
        tuple
            Path of the first image if none of those looked at exists as a file, else None; number looked at.

        Raises
        ------
        DataChangedError
            The data file was changed or removed.
        """
        rows = self.read(0, min(len(self), _ROWS_SEARCHED))
        references = (image for row in rows if isinstance(row, Sample) for image in row.images)
        paths = [image.path for image in islice(references, first)]
        return (paths[0] if paths and not any(map(os.path.isfile, paths)) else None), len(paths)

    def describe(self) -> str:
        """Return format, container and number of rows, in one line for people."""
        keys = f"`{self._format.turns_key}`, `{self._format.image_keys[0]}`"
        container = _CONTAINER_TITLES[self.container] if self.path else "a Python list"
        rows = f"{len(self):,}" if len(self) == self.total_records else f"{len(self):,} of {self.total_records:,}"
        return f"{self._format.title} ({keys}) in {container}: {rows} {'row' if self.total_records == 1 else 'rows'}"

    def _sample(self, row: int) -> Sample | UnusableRecord:
        try:
            fields = record_fields(self._records.raw(row))
        except SampleError as error:
            detail = self._records.fault(row) or error.detail
            return UnusableRecord(RowIdentity(row, self.source, None, "absent"), error.reason, detail)
        return self._sample_of(row_identity(row, self.source, fields), fields)

    def _sample_of(self, identity: RowIdentity, fields: Fields) -> Sample | UnusableRecord:
        turns = images = 0
        try:
            recorded = self._format.turns(fields)
            turns = len(recorded)
            texts = self._format.image_texts(fields)
            images = len(texts)
            refuse_other_media(fields)
            conversation = read_conversation(recorded, images, image_position=self.image_position)
            references = tuple(image_reference(text, self.images) for text in texts)
        except SampleError as error:
            return UnusableRecord(identity, error.reason, error.detail, turns, images)
        return Sample(
            identity, conversation.turns, references, conversation.images_in_front, hash_of_turns(conversation.turns)
        )


def _image_key(sample: Sample) -> int:
    paths = "\0".join(image.path for image in sample.images)
    return int.from_bytes(hashlib.blake2b(paths.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def open_pool(
    data: str | Path | Sequence[Mapping[str, object]],
    *,
    format: str = "auto",  # noqa: A002  the name of the option
    images: str | Path | None = None,
    image_position: str = "record",
    limit: int | None = None,
) -> Pool:
    """Open a JSON or JSON Lines file, or a list of records, as a pool. Records are read later, one by one.

    Parameters
    ----------
    data
        Path of the data file, or the records themselves.
    format
        `llava`, `messages`, or `auto`: whichever most of the first 100 records are in.
    images
        Folder that image paths are relative to; default: the data file's folder, the working directory for a list.
    image_position
        `record` or `turn-start`.
    limit
        Only the first rows; as many as there are, or more, means all.

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
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise OptionError(f"limit must be a whole number of at least 1: {limit!r}")
    records, path = _open_records(data)
    rows = (records.raw(row) for row in range(len(records)))
    first_fault = records.first_fault() if isinstance(records, RecordList) else None
    return Pool(
        source="records" if path is None else path.stem,
        path=path,
        images=_image_folder(images, Path.cwd() if path is None else path.parent),
        image_position=image_position,
        limit=None if limit is not None and limit >= len(records) else limit,
        _records=records,
        _format=choose_format(format, rows, "the list" if path is None else str(path), first_fault),
    )


def _open_records(data: object) -> tuple[RecordFile | RecordList, Path | None]:
    if isinstance(data, (str, os.PathLike)):
        path = Path(os.fsdecode(data)).absolute()  # workers may stand in another folder
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DatasetError(f"the data file's path is not valid UTF-8, rename it: {str(path)!r}") from None
        return RecordFile(path), path
    if isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray, memoryview)):
        return RecordList(data), None
    raise DatasetError(f"data must be the path of a file or a list of records: {type(data).__name__}")


def _image_folder(given: str | Path | None, default: Path) -> Path:
    if given is None:
        return Path(os.path.realpath(default))
    if given == "":  # a Path would make it the working directory
        raise OptionError("images is empty (wanted: the folder that image paths are relative to)")
    folder = Path(given).absolute()
    try:
        if folder.is_dir():
            return Path(os.path.realpath(folder))  # one folder, one spelling: it is a key of the run
        problem = "is no folder" if folder.exists() else "does not exist"
        near = did_you_mean(folder.name, (entry.name for entry in folder.parent.iterdir() if entry.is_dir()))
    except (OSError, ValueError):  # a folder that may not be listed, a NUL byte
        problem, near = "does not exist", ""
    raise DatasetError(f"image folder {problem}: {folder}{near}")

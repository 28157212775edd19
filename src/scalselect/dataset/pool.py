"""The pool: all records of one data set, read as samples in pool order by range of rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.dataset.conversations import hash_of_turns
from scalselect.dataset.image_references import image_reference, reference_of
from scalselect.dataset.image_values import embedded_number, path_of, written_bytes
from scalselect.dataset.record_fields import record_fields, row_identity
from scalselect.dataset.table_records import TableRecords
from scalselect.errors import SampleError
from scalselect.image_files import image_exists, read_image_file
from scalselect.records import Reason, RowIdentity, Sample, UnusableRecord
from scalselect.row_limits import check_number_of_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.dataset.conversations import Conversation
    from scalselect.dataset.image_values import ImageValue
    from scalselect.dataset.record_fields import Fields
    from scalselect.dataset.record_formats import RecordFormat
    from scalselect.dataset.record_source import RecordSource, WrittenFile
    from scalselect.records import ImageReference

_ROWS_SEARCHED = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Records to choose from, by row position. Picklable; workers open the data file by themselves.

    Attributes
    ----------
    source
        Name of the data set: one that was given, else the stem of the data file's name, `records` for a Python list.
    location
        The data file, an absolute path or a URL; None for a Python list.
    images
        Folder that relative image paths are relative to: an absolute path, symbolic links and `..` resolved, or a URL.
    image_position
        `record` or `turn-start`; see `scalselect.dataset.conversations`.
    limit
        Number of rows looked at, from the first, if there are more; None for all.
    allow_remote_images
        Images may lie at web addresses.
    confined
        Images must lie in the image folder, wherever links lead; web addresses are another matter.
    mapping
        What a `dataset_info.json` says of the records, None where none was named.
    """

    source: str
    location: str | None
    images: str
    image_position: str
    limit: int | None
    _records: RecordSource
    _format: RecordFormat
    allow_remote_images: bool = False
    confined: bool = False
    mapping: dict[str, Any] | None = None

    def __len__(self) -> int:
        return self.total_records if self.limit is None else self.limit

    @property
    def total_records(self) -> int:
        """Number of records, whatever the limit."""
        return len(self._records)

    @property
    def paths(self) -> list[Path]:
        """The files of the data set, or the local copies that are read; none where it can be but one, or a list."""
        return self._records.paths if isinstance(self._records, TableRecords) else []

    @property
    def format(self) -> str:
        """Name of the record format: `llava`, `messages`, `alpaca`, ..., or `dataset-info` for one that was mapped."""
        return self._format.name

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Keys under which its records keep their images, the usual one first."""
        return self._format.image_keys

    @property
    def record_format(self) -> RecordFormat:
        """Where records keep what."""
        return self._format

    @property
    def container(self) -> str:
        """What the records are kept in; see `RecordSource`."""
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

    def embedded_image(self, image: ImageReference) -> bytes:
        """Return the bytes of an image that lies in the data themselves; its record is read again.

        Where the container has a null for the bytes, those of the file that the record names beside them.

        Raises
        ------
        SampleError
            `image_missing`: there are no bytes and no such file. `image_unreadable`: broken base64.
        ValueError
            The image is none of this pool's embedded ones.
        DataChangedError
            The data were changed or removed.
        """
        if image.embedded is None or not 0 <= image.embedded[0] < len(self):
            raise ValueError(f"no embedded image of a pool of {len(self)}: {image}")
        row, number = image.embedded
        fields = record_fields(self._records.raw(row))
        shown = self._conversation(fields, self._format.turns(fields), self._format.images(fields)).images
        if number >= len(shown):
            raise ValueError(f"row {row} shows {len(shown)} images: {image}")
        place = embedded_number(shown[number])
        if place is None:
            return written_bytes(shown[number])
        content = self._records.embedded(row, place)
        if content:
            return content
        if content is not None:
            raise SampleError(Reason.IMAGE_UNREADABLE, "the bytes in the data are empty")
        path = path_of(shown[number])
        if path is None:
            raise SampleError(Reason.IMAGE_MISSING, "no bytes in the data, and no path beside them")
        beside = image_reference(path, self.images, allow_remote=self.allow_remote_images, confined=self.confined)
        return read_image_file(beside.path, within=beside.within)

    def write(self, rows: Sequence[int], target: Path) -> list[WrittenFile]:
        """Write the records of some rows in their own container; see `RecordSource.write`."""
        return self._records.write(rows, target)

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and `bytes` of the data file (or of the encoded list) and `records`, all of them.

        The hash is that of the file as it was opened, not of what may lie there by now.
        """
        return self._records.fingerprint()

    def facts(self) -> dict[str, Any]:
        """Return what a run records of the data set; see `scalselect.segments.Segment`."""
        return {
            "path": self.location,
            "source": self.source,
            "images": self.images,
            "rows": len(self),
            "data_format": self.format,
            "mapping": self.mapping,
            **{f"data_{name}": value for name, value in self.fingerprint().items()},
        }

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
        shown = (image for row in rows if isinstance(row, Sample) for image in row.images)
        references = list(islice((image for image in shown if image.embedded is None), first))
        none = bool(references) and not any(map(_is_there, references))
        return (references[0].path if none else None), len(references)

    def describe(self) -> str:
        """Return format, container and number of rows, in one line for people."""
        keys = ", ".join(f"`{key}`" for key in self._format.main_keys)
        rows = f"{len(self):,}" if len(self) == self.total_records else f"{len(self):,} of {self.total_records:,}"
        unit = "row" if self.total_records == 1 else "rows"
        return f"{self._format.title} ({keys}) in {self._records.title}: {rows} {unit}"

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
            listed = self._format.images(fields)
            images = len(listed)
            read = self._conversation(fields, recorded, listed)
            turns, images = len(read.turns), len(read.images)
            check_number_of_images(images)
            references = tuple(
                reference_of(
                    image,
                    identity.row,
                    number,
                    self.images,
                    allow_remote=self.allow_remote_images,
                    confined=self.confined,
                )
                for number, image in enumerate(read.images)
            )
        except SampleError as error:
            return UnusableRecord(identity, error.reason, error.detail, turns, images)
        return Sample(identity, read.turns, references, read.images_in_front, hash_of_turns(read.turns))

    def _conversation(self, fields: Fields, turns: Sequence[Any], images: Sequence[ImageValue]) -> Conversation:
        return self._format.conversation(fields, turns, images, self.image_position)


def _is_there(image: ImageReference) -> bool:
    """Tell whether there is a file, or whether that may not be looked at: its row will tell."""
    try:
        return image_exists(image.path, within=image.within)
    except SampleError as error:
        return error.reason == Reason.IMAGE_OUTSIDE


def _image_key(sample: Sample) -> int:
    paths = "\0".join(image.path or str(image.embedded) for image in sample.images)
    return int.from_bytes(hashlib.blake2b(paths.encode("utf-8", "surrogatepass"), digest_size=8).digest())

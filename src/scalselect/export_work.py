"""A subset written in another form: which files, of which samples, with which images. No torch."""

from __future__ import annotations

import gzip
import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from scalselect.dataset.export_rules import left_out_words, why_left_out
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.json_writing import write_json_records
from scalselect.dataset.message_export import encoded, llava_record, message_record
from scalselect.dataset.record_rewriting import Rewriting
from scalselect.dataset.trl_export import write_trl
from scalselect.errors import SampleError, WorkError
from scalselect.image_files import image_exists, read_image_file, refuse_location_outside
from scalselect.records import Sample
from scalselect.remote_files import is_remote
from scalselect.remote_path import as_remote
from scalselect.storage import publish_bytes, publish_stream, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from scalselect.dataset.export_rules import ConvertedForm
    from scalselect.dataset.pool import Pool
    from scalselect.dataset.trl_export import ImageCell
    from scalselect.records import ImageReference

_LINES = ("jsonl", "jsonl.gz")


@dataclass(slots=True)
class Counts:
    """What an export wrote: records, images that were copied, and records left out by reason."""

    records: int = 0
    images: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


class SubsetExport:
    """The export of some rows of a pool.

    Parameters
    ----------
    pool
        The records.
    rows
        Row positions, ascending.

    Raises
    ------
    WorkError
        While anything is written: an image is missing or cannot be read, and DataChangedError.
    """

    def __init__(self, pool: Pool | JoinedPool, rows: Sequence[int]) -> None:
        self._pool = pool if isinstance(pool, JoinedPool) else JoinedPool([pool])
        self._rows = rows
        self.counts = Counts()

    def write_trl(self, path: Path, *, embed_images: bool) -> list[Path]:
        """Write a Parquet file for TRL; images that are files are copied into it where asked for."""

        def cell_of(image: ImageReference) -> ImageCell:
            if image.embedded is not None or embed_images:
                self.counts.images += 1
                return {"bytes": self._content(image), "path": Path(image.text).name or None}
            return {"bytes": None, "path": self._existing(image)}

        with publish_stream(path) as stream:
            write_trl(self._samples("trl"), stream, cell_of)
        return [path]

    def write_messages(self, path: Path) -> list[Path]:
        """Write message records as JSON Lines, and beside them as files the images that lie in the data."""
        folder = _emptied(path)
        with publish_stream(path) as stream:
            for sample in self._samples("messages"):
                stream.write(encoded(message_record(sample, self._paths(sample, folder))) + b"\n")
        return [path]

    def write_llava(self, path: Path) -> list[Path]:
        """Write LLaVA records as a JSON array; rows that it does not train on are left out and counted."""
        folder = _emptied(path)
        with publish_stream(path) as stream:
            between = b"[\n"
            for sample in self._samples("llava"):
                stream.write(between + encoded(llava_record(sample, self._paths(sample, folder))))
                between = b",\n"
            stream.write(b"\n]\n")
        return [path]

    def write_source(self, path: Path, *, absolute_paths: bool, ids_as_strings: bool) -> list[Path]:
        """Write the records as they were but for ids and paths, each data set in its own container.

        Parameters
        ----------
        path
            The file, whose ending is added where it has none; of several data sets the folder of their files.
        """
        written = []
        for number, part in enumerate(self._pool.parts):
            span = self._pool.rows_of(number)
            rows = [row - span.start for row in self._rows if row in span]
            rewrite = Rewriting(ids_as_strings, part.image_keys if absolute_paths else ())
            file = source_file(path, self._pool, number)
            file.parent.mkdir(parents=True, exist_ok=True)
            with _published(file) as stream:
                write_json_records(stream, map(_Rewritten(part, rewrite), rows), lines=part.container in _LINES)
            self.counts.records += len(rows)
            written.append(file)
        return written

    def _samples(self, form: ConvertedForm) -> Iterator[Sample]:
        """Yield the samples that have a place in a form, and count both kinds."""
        for row, sample in zip(self._rows, self._pool.samples_at(self._rows), strict=True):
            if not isinstance(sample, Sample):
                raise WorkError(f"row {sample.identity.row} cannot be read: {sample.detail}")
            number = self._pool.part_of(row)
            reason = why_left_out(form, sample, self._pool.parts[number], row - self._pool.rows_of(number).start)
            if reason is None:
                self.counts.records += 1
                yield sample
            else:
                self.counts.left_out[reason] = self.counts.left_out.get(reason, 0) + 1
        if not self.counts.records:
            told = left_out_words(self.counts.left_out)
            raise WorkError(f"no row of the subset can be written for this trainer: {told}")

    def _paths(self, sample: Sample, folder: Path) -> list[str]:
        """Return where the images of a sample lie, those that are in the data or not on this machine written out."""
        paths = []
        for number, image in enumerate(sample.images):
            if image.embedded is None and "://" not in image.path:
                paths.append(self._existing(image))
                continue
            content = self._content(image)
            file = folder / f"{sample.identity.row:07d}-{number}.{_ending(content)}"
            if as_remote(file):
                publish_bytes(file, content)
            else:  # the records are published after their images, and whole
                folder.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self.counts.images += 1
            paths.append(str(file.absolute()))
        return paths

    def _content(self, image: ImageReference) -> bytes:
        try:
            if image.embedded is not None:
                return self._pool.embedded_image(image)
            return read_image_file(image.path, within=image.within)
        except SampleError as error:
            raise WorkError(f"an image of the subset cannot be read: {image.path or image.text} ({error})") from None

    def _existing(self, image: ImageReference) -> str:
        try:
            if is_remote(image.path):  # not asked for: they may be many, and far away
                refuse_location_outside(image.path, image.within)
            elif not image_exists(image.path, within=image.within):
                raise WorkError(f"an image of the subset is gone: {image.path}")
        except SampleError as error:
            raise WorkError(f"an image of the subset cannot be read: {image.path} ({error})") from None
        return image.path


def source_file(path: Path, pool: JoinedPool, number: int) -> Path:
    """Return the file that an export to `source` writes for one part of a pool; see `SubsetExport.write_source`."""
    part = pool.parts[number]
    ending = ".json" if part.container == "list" else f".{part.container}"
    if len(pool.parts) > 1:
        return path / f"{part.source}{ending}"
    return path if path.name.endswith(ending) else path.with_name(path.name + ending)


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """Returns the record of a row of a pool, rewritten."""

    part: Pool
    rewrite: Rewriting

    def __call__(self, row: int) -> bytes:
        paths = {}
        if self.rewrite.image_keys:
            sample = next(iter(self.part.samples_at([row])))
            images = sample.images if isinstance(sample, Sample) else ()
            paths = {image.text: image.path for image in images if image.embedded is None}
        return self.rewrite(self.part.raw(row), paths)


@contextmanager
def _published(path: Path) -> Iterator[IO[bytes] | io.BufferedIOBase]:
    with publish_stream(path) as stream:
        if path.suffix != ".gz":
            yield stream
        else:
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:  # no name and no date: equal bytes
                yield packed


def _emptied(path: Path) -> Path:
    """Return the folder of the images that are written beside a file, without those of an earlier export."""
    folder = path.with_name(f"{path.stem}-images")
    remove_tree(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _ending(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content)) as image:
            name = (image.format or "img").lower()
    except Exception:  # noqa: BLE001  Pillow raises nearly everything; the trainer will say what it thinks of it
        return "img"
    return {"jpeg": "jpg"}.get(name, name)

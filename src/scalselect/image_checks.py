"""The images of rows that are represented already, held against what was read then: before a run goes on.

By default only sizes are compared, of the images of rows drawn by a seed; asked for, the content of all images is.
Images in the data themselves are left out: the hash of the data covers them.
"""

from __future__ import annotations

import errno
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.errors import DatasetError, SampleError
from scalselect.http_images import is_web_address
from scalselect.image_files import read_image_file
from scalselect.records import Sample
from scalselect.remote_files import is_remote
from scalselect.remote_path import path_of
from scalselect.storage import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore
    from scalselect.segments import Segment

ROWS_CHECKED = 1000
_THREADS = 16  # that wait for answers about sizes
_SECONDS_BETWEEN_LINES = 10.0
_TOLD = 5
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_COLUMNS = ["row", "status", "image_sha256", "image_bytes"]


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of a row as it was read when the row was represented; without a path where its record fails now."""

    row: int
    text: str
    path: str
    size: int
    sha256: str


def check_images(
    store: RepresentationStore, named: Sequence[tuple[Segment, Pool]], progress: Progress, *, every: bool
) -> None:
    """Refuse to go on where images of published rows are not what was read then.

    Parameters
    ----------
    named
        The segments whose rows are looked at, with their data.
    every
        Whether the content of every image is held against its hash, those on the web fetched again; else the sizes of
        the images of `ROWS_CHECKED` rows are compared, those on the web left out.

    Raises
    ------
    DatasetError
        Naming the first rows and images that differ, with both sizes or hashes.
    DamagedShardError
        If a file that tells of the rows is not what was published.
    OSError
        If a disk or store cannot be read.
    """
    began = time.monotonic()
    rows = 0
    changed: list[str] = []
    drawn = None if every else _drawn(store, named)
    if every:
        progress.say("images: every one is held against the hash of what was read")
    for shard, segment, pool in _published(store, named):
        if drawn is not None and shard not in drawn:
            continue
        known = store.rows(shard, _COLUMNS)
        known = known.filter(pc.greater(pc.list_value_length(known["image_sha256"]), 0))
        if drawn is not None:
            known = known.filter(pc.equal(known["status"], "scored")).take(drawn[shard])
        rows += known.num_rows
        images = list(_images(known, segment, pool))
        changed += _of_other_content(images) if every else _of_other_size(images)
        if every and time.monotonic() - began >= _SECONDS_BETWEEN_LINES:
            began = time.monotonic()
            progress.say(f"images: those of {rows:,} rows held against their hashes, {len(changed):,} changed")
    if changed:
        told = "\n".join(f"  {words}" for words in changed[:_TOLD])
        more = f"\n  and {len(changed) - _TOLD:,} more" if len(changed) > _TOLD else ""
        number = len({words.partition(", ")[2] for words in changed})  # one may be shown by many rows
        raise DatasetError(
            f"{number:,} image{' has' if number == 1 else 's have'} changed since their rows were represented, of "
            f"those of {rows:,} rows looked at:\n{told}{more}\nrestore the images, or begin again in another folder"
        )
    if every:
        progress.say(f"images: those of all {rows:,} rows that show any are what was read")


def _published(
    store: RepresentationStore, named: Sequence[tuple[Segment, Pool]]
) -> Iterator[tuple[int, Segment, Pool]]:
    for segment, pool in named:
        for shard in segment.shards:
            if store.is_published(shard):
                yield shard, segment, pool


def _drawn(store: RepresentationStore, named: Sequence[tuple[Segment, Pool]]) -> dict[int, list[int]]:
    """Draw rows among all scored ones by the counts in the reports: shard to places among its scored rows."""
    counts = {shard: store.report(shard).counts.get("scored", 0) for shard, _, _ in _published(store, named)}
    total = sum(counts.values())
    places = iter(sorted(random.Random(0).sample(range(total), min(ROWS_CHECKED, total))))  # noqa: S311  no secret
    drawn: dict[int, list[int]] = {}
    begin, place = 0, next(places, None)
    for shard, count in counts.items():
        while place is not None and place < begin + count:
            drawn.setdefault(shard, []).append(place - begin)
            place = next(places, None)
        begin += count
    return drawn


def _images(known: pa.Table, segment: Segment, pool: Pool) -> Iterator[_Image]:
    """Yield the images of some rows that do not lie in the data, each with what was read then."""
    placed = JoinedPool([pool], first_row=segment.first_row)
    rows = known["row"].to_pylist()
    recorded = zip(known["image_bytes"].to_pylist(), known["image_sha256"].to_pylist(), strict=True)
    for row, sample, (sizes, digests) in zip(rows, placed.samples_at(rows), recorded, strict=True):
        if not isinstance(sample, Sample) or len(sample.images) != len(digests):
            yield _Image(row, "its images can no longer be found", "", sizes[0], digests[0])
            continue
        for image, size, sha256 in zip(sample.images, sizes, digests, strict=True):
            if image.embedded is None:
                yield _Image(row, image.text, image.path, size, sha256)


def _of_other_size(images: Iterable[_Image]) -> list[str]:
    local = [image for image in images if not is_web_address(image.path)]
    with ThreadPoolExecutor(_THREADS) as threads:
        sizes = list(threads.map(_size, [image.path for image in local]))
    return [
        f"row {image.row}, {image.text}: {image.size:,} bytes then, {'gone' if size is None else f'{size:,} bytes'} now"
        for image, size in zip(local, sizes, strict=True)
        if size != image.size
    ]


def _size(path: str) -> int | None:
    """Return the bytes of a file; None where there is none."""
    try:
        return path_of(path).stat().st_size if is_remote(path) else os.stat(path).st_size  # noqa: PTH116  as opened
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise
    except ValueError:  # a NUL byte
        return None


def _of_other_content(images: Iterable[_Image]) -> list[str]:
    now: dict[str, str] = {}  # rows of a shard often share images
    changed = []
    for image in images:
        if image.path not in now:
            try:
                now[image.path] = f"sha256 {sha256_of_bytes(read_image_file(image.path))}"
            except SampleError as error:
                now[image.path] = f"not to be read ({error.detail})"
        if now[image.path] != f"sha256 {image.sha256}":
            changed.append(f"row {image.row}, {image.text}: sha256 {image.sha256} then, {now[image.path]} now")
    return changed

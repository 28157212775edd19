"""The segments of a run: the data set it began with, and each one that came later. Old rows and shards never move.

Rows of all segments are counted on, and so are their shards; each segment begins a new shard::

    segment 0   2,500 rows   pool rows 0 to 2,499      shards 0, 1, 2
    segment 1     400 rows   pool rows 2,500 to 2,899  shard 3
    segment 2   1,000 rows   pool rows 2,900 to 3,899  shard 4
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One data set of a run; an entry of run.json's `segments`.

    Attributes
    ----------
    path
        The data file, absolute; None for a Python list.
    source
        Name of the data set: the stem of the file's name, told apart where it would repeat.
    images
        Folder that its image paths are relative to.
    rows, first_row
        Number of its rows, and the pool position of the first.
    first_shard
        Number of its first shard.
    shard_size
        Rows a shard; the last may have fewer.
    data_sha256, data_bytes, data_records, data_format
        Fingerprint and record format of the data.
    mapping
        Under which keys the records keep what, where a `dataset_info.json` says so.
    """

    path: str | None
    source: str
    images: str
    rows: int
    first_row: int
    first_shard: int
    shard_size: int
    data_sha256: str
    data_bytes: int
    data_records: int
    data_format: str
    mapping: dict[str, Any] | None = None

    @property
    def shards(self) -> range:
        """Numbers of its shards."""
        return range(self.first_shard, self.first_shard - (-self.rows // self.shard_size))

    @property
    def spans(self) -> dict[int, range]:
        """The pool rows of each of its shards; in image order the places in that order."""
        return {shard: self.span(shard) for shard in self.shards}

    def span(self, shard: int) -> range:
        """Return the pool rows of one of its shards; in image order the places in that order."""
        start = self.first_row + (shard - self.first_shard) * self.shard_size
        return range(start, min(start + self.shard_size, self.stop_row))

    @property
    def stop_row(self) -> int:
        """The pool position after its last row."""
        return self.first_row + self.rows

    @property
    def fingerprint(self) -> dict[str, str | int]:
        """What `Pool.fingerprint` said of the data."""
        return {"sha256": self.data_sha256, "bytes": self.data_bytes, "records": self.data_records}


def segments_of(run: Mapping[str, Any]) -> list[Segment]:
    """Return the segments of a run, in order, from the content of its run.json; a run never extended has one.

    Raises
    ------
    KeyError, TypeError
        If an entry is not one of a segment.
    """
    entries = run.get("segments")
    if entries:
        return [_segment(entry) for entry in entries]
    represent = run["represent"]
    return [
        Segment(
            path=run.get("data", {}).get("path"),
            source=run.get("data", {}).get("source"),
            first_row=0,
            first_shard=0,
            **{
                name: represent.get(name)
                for name in ("images", "rows", "shard_size", "data_sha256", "data_bytes", "data_records", "data_format")
            },
            mapping=represent.get("mapping"),
        )
    ]


def _segment(entry: Mapping[str, Any]) -> Segment:
    # What was added to segments later may be missing in older runs.
    known = {item.name: entry[item.name] for item in fields(Segment) if item.name in entry or item.default is MISSING}
    return Segment(**known)


def next_segment(before: Segment | None, **facts: Any) -> Segment:
    """Return the segment of a data set that comes after another one, or first."""
    return Segment(
        first_row=0 if before is None else before.stop_row,
        first_shard=0 if before is None else before.shards.stop,
        **facts,
    )


def entries_of(segments: list[Segment]) -> list[dict[str, Any]]:
    """Return segments as run.json's `segments`."""
    return [asdict(segment) for segment in segments]


def rows_of(run: Mapping[str, Any]) -> int:
    """Return the number of pool rows of a run, all segments together."""
    return segments_of(run)[-1].stop_row


def shards_with(run: Mapping[str, Any], rows: Iterable[int]) -> Sequence[int]:
    """Return the numbers of the shards in which some rows of the pool lie, ascending.

    All shards where work went in the order of images: a row may then be in any of them.
    """
    if run["represent"].get("order") == "image":
        return shards_of(run)
    segments, wanted = segments_of(run), list(rows)
    return sorted(
        {
            segment.first_shard + (row - segment.first_row) // segment.shard_size
            for segment in segments
            for row in wanted
            if segment.first_row <= row < segment.stop_row
        }
    )


def shards_of(run: Mapping[str, Any]) -> range:
    """Return the numbers of all shards of a run, all segments together, from the content of its run.json."""
    return range(segments_of(run)[-1].shards.stop)

"""The store of sample representations: shards, each complete or absent. Knows arrays and rows; no model, no scores.

A shard is three files. The report is written last, so a shard whose report exists is whole::

    representations/shard-0000000.safetensors    `representations` [rows, hidden] float32 (float64 where vectors made
                                                 elsewhere are), `rows` [rows] int64, and
                                                 `instruction_representations` [rows, hidden] where asked for
    representations/shard-0000000.rows.parquet   one row for every pool row of the shard
    representations/shard-0000000.json           row range, counts, seconds, device, sha256 of the other two

Beyond 10,000 shards each further ten thousand lie in a folder of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import safe_open

from scalselect.errors import DamagedFileError
from scalselect.storage import publish_bytes, sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import RowRecord

METADATA_KEY = "scalselect"  # the one metadata key: several would be written in random order
_SHARDS_A_FOLDER = 10_000
_REPEAT = "repeat the `scalselect run` or `scalselect represent` command that made this folder"

ROWS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("id_type", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("turns", pa.int32(), nullable=False),
        pa.field("images", pa.int32(), nullable=False),
        pa.field("image_sha256", pa.list_(pa.string()), nullable=False),
        pa.field("image_bytes", pa.list_(pa.int64()), nullable=False),
        pa.field("text_sha256", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("vision_tokens", pa.int32()),
        pa.field("kept_tokens", pa.int32()),
        pa.field("cut_margin", pa.float64()),
        pa.field("uniform", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("escaped", pa.int32(), nullable=False),
        pa.field("images_in_front", pa.bool_(), nullable=False),
        pa.field("exif_rotated", pa.bool_(), nullable=False),
        pa.field("alpha", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """The completion report of a shard.

    Attributes
    ----------
    start, stop
        Pool rows [start, stop) of the shard; in a run in image order, places [start, stop) in that order.
    counts
        Rows by status.
    reasons
        Skipped rows by reason.
    seconds
        Wall-clock seconds by stage.
    device
        Kind of device the model ran on.
    split_batches
        Batches that ran out of memory and were halved.
    reuse
        `images_computed` and `images_reused`: times that an image went through the vision tower, and did not need to;
        `prefixes_reused`: samples that were run only from where they part from another one.
    versions
        Versions of the libraries that computed it.
    files
        File name to size and sha256.
    """

    shard: int
    start: int
    stop: int
    counts: dict[str, int]
    reasons: dict[str, int]
    seconds: dict[str, float]
    device: str
    split_batches: int
    reuse: dict[str, int]
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]


class RepresentationStore:
    """Shards below one folder.

    Parameters
    ----------
    folder
        The `representations` folder of a run; created when the first shard is published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_published(self, shard: int) -> bool:
        """Tell whether a shard is complete."""
        return self._path(shard, ".json").exists()

    def publish(
        self,
        shard: int,
        span: range,
        records: Sequence[RowRecord],
        representations: NDArray[np.float32] | NDArray[np.float64],
        facts: dict[str, Any],
        *,
        rows: Sequence[int] | None = None,
        instruction_representations: NDArray[np.float32] | NDArray[np.float64] | None = None,
    ) -> ShardReport:
        """Write a shard: arrays, rows, and last the report that makes it count.

        Parameters
        ----------
        span
            Pool rows of the shard, or its places in image order.
        records
            One record for every row of the shard, in pool order.
        representations
            One row for every record whose status is `scored`, in order, float32 or float64 [scored, hidden]; the
            number type is kept.
        facts
            `seconds`, `device`, `split_batches`, `reuse` and `versions` of the report.
        rows
            Pool rows of the shard, ascending, where they are not those of `span`.
        instruction_representations
            A second vector of the same rows, where asked for, float32 or float64 [scored, hidden].

        Raises
        ------
        ValueError
            If rows are missing, repeated or out of order: nothing dropped may go uncounted.
        """
        rows = span if rows is None else rows
        if [record.identity.row for record in records] != list(rows) or len(rows) != len(span):
            raise ValueError(f"shard {shard} needs one record for every one of its {len(span)} rows, in order")
        scored = [record.identity.row for record in records if record.status == "scored"]
        arrays = {"representations": representations, "instruction_representations": instruction_representations}
        # The writer takes the bytes as they lie, whatever the strides.
        stored = {
            name: np.ascontiguousarray(x, dtype=np.float64 if x.dtype == np.float64 else np.float32)
            for name, x in arrays.items()
            if x is not None
        }
        for name, array in stored.items():  # [scored, hidden]
            if len(scored) != len(array):
                raise ValueError(f"shard {shard} has {len(scored)} scored rows but {len(array)} {name}")
        contents = {
            ".safetensors": safetensors.numpy.save(
                {**stored, "rows": np.asarray(scored, dtype=np.int64)},
                metadata={
                    METADATA_KEY: json.dumps({"shard": shard, "start": span.start, "stop": span.stop}, sort_keys=True)
                },
            ),
            ".rows.parquet": table_bytes(_table_of_rows(records)),
        }
        files = {}
        for suffix, content in contents.items():
            path = self._path(shard, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            publish_bytes(path, content)
            files[path.name] = {"bytes": len(content), "sha256": sha256_of_bytes(content)}
        report = ShardReport(
            shard=shard,
            start=span.start,
            stop=span.stop,
            counts=_count(record.status for record in records),
            reasons=_count(str(record.reason) for record in records if record.reason is not None),
            files=files,
            **facts,
        )
        publish_bytes(self._path(shard, ".json"), json.dumps(asdict(report), sort_keys=True, indent=1).encode())
        return report

    def report(self, shard: int) -> ShardReport:
        """Return the report of a published shard. Raises DamagedFileError."""
        path = self._path(shard, ".json")
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise DamagedFileError(f"shard {shard} is not represented: {path}; {_REPEAT}") from error
        except ValueError as error:
            raise DamagedFileError(f"shard report cannot be read: {path} ({error}); {_remedy(path)}") from error
        try:
            return ShardReport(**{item.name: content[item.name] for item in fields(ShardReport)})
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"shard report cannot be read: {path} ({error}); {_remedy(path)}") from error

    def representations(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return pool positions [scored] and representations float32 [scored, hidden]. Raises DamagedFileError."""
        arrays = safetensors.numpy.load(self._read(shard, ".safetensors"))
        return arrays["rows"], arrays["representations"]

    def instruction_representations(self, shard: int) -> NDArray[np.float32] | None:
        """Return the second vectors of the scored rows, float32 [scored, hidden]; None where none were asked for."""
        arrays: dict[str, NDArray[np.float32]] = safetensors.numpy.load(self._read(shard, ".safetensors"))
        return arrays.get("instruction_representations")

    def rows(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a shard as a table of `ROWS_SCHEMA`, or some of its columns. Raises DamagedFileError."""
        return table_from_bytes(self._read(shard, ".rows.parquet"), columns)

    def all_rows(self, shards: range, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of all shards as one table, in pool order."""
        wanted = None if columns is None else list(dict.fromkeys([*columns, "row"]))
        table = pa.concat_tables([self.rows(shard, wanted) for shard in shards]).combine_chunks()
        rows = table["row"].to_numpy()
        if (rows[1:] < rows[:-1]).any():  # shards in image order
            table = table.take(pa.array(np.argsort(rows)))
        return table if columns is None else table.select(columns)

    def blocks(self, shards: range) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield pool positions and representations shard by shard, in order, without the shards that have none."""
        for shard in shards:
            rows, representations = self.representations(shard)
            if len(rows):
                yield rows, representations

    def vectors_at(self, shards: range, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the representations of a few pool rows, read without the rest of their shards.

        For looking at a sample of rows: the files are not held against their hashes.

        Parameters
        ----------
        rows
            Pool positions, ascending, each once and each with a representation, int64 [wanted].

        Returns
        -------
        Float32 [wanted, hidden].

        Raises
        ------
        ValueError
            If a row has no representation.
        """
        found: list[NDArray[np.float32]] = []
        places: list[NDArray[np.int64]] = []
        for shard in shards:
            with safe_open(self._path(shard, ".safetensors"), framework="numpy") as stored:
                here = stored.get_tensor("rows")  # [scored]
                if not here.size or not rows.size:
                    continue
                place = np.searchsorted(rows, here)  # [scored]
                wanted = np.flatnonzero(rows[np.minimum(place, rows.size - 1)] == here)
                vectors = stored.get_slice("representations")
                found += [vectors[int(at) : int(at) + 1] for at in wanted]
                places.append(place[wanted])
        order = np.concatenate([*places, np.empty(0, dtype=np.int64)])  # [found]
        if order.size != rows.size:
            raise ValueError(f"{rows.size - order.size} of {rows.size} rows have no representation")
        return np.concatenate(found)[np.argsort(order)] if found else np.empty((0, 0), dtype=np.float32)

    def digest(self, shards: range) -> str:
        """Return one hash over the contents of all shards, from their reports."""
        digest = hashlib.sha256()
        for shard in shards:
            report = self.report(shard)
            for name in sorted(report.files):
                digest.update(f"{name} {report.files[name]['sha256']}\n".encode())
        return digest.hexdigest()

    def _read(self, shard: int, suffix: str) -> bytes:
        """Read a file of a shard and hold it against the report: neither format notices a flipped bit by itself."""
        path = self._path(shard, suffix)
        expected = self.report(shard).files.get(path.name, {})
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise DamagedFileError(f"shard file is missing: {path}; {_remedy(self._path(shard, '.json'))}") from error
        if sha256_of_bytes(content) != expected.get("sha256"):
            raise DamagedFileError(
                f"shard file is not what was published: {path} ({len(content):,} bytes, {expected.get('bytes')} were "
                f"published, or its sha256 differs); {_remedy(self._path(shard, '.json'))}"
            )
        return content

    def _path(self, shard: int, suffix: str) -> Path:
        folder = self.folder
        if shard >= _SHARDS_A_FOLDER:
            folder /= f"{shard // _SHARDS_A_FOLDER:05d}"
        return folder / f"shard-{shard:07d}{suffix}"


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def table_from_bytes(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table of a Parquet file, or some of its columns. Raises pyarrow.ArrowInvalid.

    Arrow's own threads stay out of it: one that lets go of the last reference to a Python buffer while the
    interpreter shuts down aborts the process.
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True)
    return file.read(columns=columns, use_threads=False)


def _remedy(report: Path) -> str:
    return f"delete {report}, then {_REPEAT}"


def _count(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))


def _table_of_rows(records: Sequence[RowRecord]) -> pa.Table:
    identity = {"row", "source", "id", "id_type"}
    columns: dict[str, list[Any]] = {
        name: [getattr(record.identity if name in identity else record, name) for record in records]
        for name in ROWS_SCHEMA.names
    }
    columns["reason"] = [None if reason is None else str(reason) for reason in columns["reason"]]
    return pa.table(columns, schema=ROWS_SCHEMA)

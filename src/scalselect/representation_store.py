"""The store of sample representations: shards, each complete or absent. Knows arrays and rows; no model, no scores.

A shard is three files. The report is written last, so a shard whose report exists is whole::

    representations/shard-0000000.safetensors    `representations` [rows, hidden], `rows` [rows] int64, and
                                                 `instruction_representations` [rows, hidden] where asked for; see
                                                 `scalselect.stored_vectors` for their number type
    representations/shard-0000000.rows.parquet   one row for every pool row of the shard
    representations/shard-0000000.json           row range, counts, seconds, device, sha256 of the other two

Beyond 10,000 shards each further ten thousand lie in a folder of their own.
"""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import safetensors.numpy

from scalselect.errors import DamagedFileError
from scalselect.row_tables import table_bytes, table_from_bytes, table_of_rows
from scalselect.shard_files import REPORT, ROWS, VECTORS, ShardFiles
from scalselect.shard_report import ShardReport
from scalselect.storage import publish_bytes, sha256_of_bytes
from scalselect.stored_vectors import decode_vectors, encode_vectors, read_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import RowRecord
    from scalselect.stored_vectors import Kind, Vectors

__all__ = ["METADATA_KEY", "RepresentationStore", "ShardReport"]

_READERS = 8  # of shards at a time
_REPORTS_AT_ONCE = 256  # that are held while they are read
METADATA_KEY = "scalselect"  # the one metadata key: several would be written in random order


class RepresentationStore:
    """Shards below one folder.

    Parameters
    ----------
    folder
        The `representations` folder of a run; created when the first shard is published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = ShardFiles(folder)

    def is_published(self, shard: int) -> bool:
        """Tell whether a shard is complete."""
        return self.files.path(shard, REPORT).exists()

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
        store_dtype: str = "float32",
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
            `seconds`, `device`, `split_batches`, `reuse` and `versions` of the report. Those of encoding
            and writing arrays and rows are added to the seconds, as `write`.
        rows
            Pool rows of the shard, ascending, where they are not those of `span`.
        instruction_representations
            A second vector of the same rows, where asked for, [scored, hidden]; NaN in rows without one.
        store_dtype
            `float32` or `float16`; see `scalselect.stored_vectors`.

        Raises
        ------
        ValueError
            If rows are missing, repeated or out of order: nothing dropped may go uncounted.
        """
        began = time.perf_counter()
        rows = span if rows is None else rows
        if [record.identity.row for record in records] != list(rows) or len(rows) != len(span):
            raise ValueError(f"shard {shard} needs one record for every one of its {len(span)} rows, in order")
        scored = [record.identity.row for record in records if record.status == "scored"]
        arrays: list[tuple[Kind, Vectors]] = [("representations", representations)]
        if instruction_representations is not None:
            arrays.append(("instruction_representations", instruction_representations))
        stored: dict[str, NDArray[np.generic]] = {"rows": np.asarray(scored, dtype=np.int64)}
        for kind, array in arrays:  # [scored, hidden]
            if len(scored) != len(array):
                raise ValueError(f"shard {shard} has {len(scored)} scored rows but {len(array)} {kind}")
            stored |= encode_vectors(array, kind, store_dtype)
        contents = {
            VECTORS: safetensors.numpy.save(
                stored,
                metadata={
                    METADATA_KEY: json.dumps({"shard": shard, "start": span.start, "stop": span.stop}, sort_keys=True)
                },
            ),
            ROWS: table_bytes(table_of_rows(records)),
        }
        files = {}
        for suffix, content in contents.items():
            path = self.files.path(shard, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            publish_bytes(path, content)
            files[path.name] = {"bytes": len(content), "sha256": sha256_of_bytes(content)}
        seconds = {**facts["seconds"], "write": round(time.perf_counter() - began, 3)}
        report = ShardReport(
            shard=shard,
            start=span.start,
            stop=span.stop,
            counts=_count(record.status for record in records),
            reasons=_count(str(record.reason) for record in records if record.reason is not None),
            files=files,
            **{**facts, "seconds": seconds},
        )
        publish_bytes(self.files.path(shard, REPORT), json.dumps(asdict(report), sort_keys=True, indent=1).encode())
        return report

    def remove(self, shards: range) -> None:
        """Delete shards: of each its report first, so that what is left of it counts for nothing."""
        for shard in shards:
            self.files.remove(shard)

    def damaged(self, spans: Mapping[int, range], *, contents: bool = False) -> dict[int, str]:
        """Return which published shards are not what was published, and in words why.

        Parameters
        ----------
        spans
            Shard to the rows, or places, that it is to hold.
        contents
            Whether all files are read and held against their hashes; else reports are read, and sizes compared.
        """
        with ThreadPoolExecutor(_READERS) as readers:  # most of the time goes into hashing, which lets others run
            faults = readers.map(lambda shard: self.files.fault(shard, spans[shard], contents=contents), spans)
            return {shard: fault for shard, fault in zip(spans, faults, strict=True) if fault is not None}

    def set_aside(self, shard: int) -> None:
        """Remove the report of a shard: it counts as not represented."""
        self.files.path(shard, REPORT).unlink(missing_ok=True)

    def report(self, shard: int) -> ShardReport:
        """Return the report of a published shard. Raises DamagedShardError."""
        return self.files.report(shard)

    def reports(self, shards: Iterable[int]) -> Iterator[ShardReport]:
        """Yield the reports of published shards, in order, several read at a time. Raises DamagedShardError."""
        with ThreadPoolExecutor(_READERS) as readers:
            left = iter(shards)
            while some := list(islice(left, _REPORTS_AT_ONCE)):
                yield from readers.map(self.report, some)

    def representations(self, shard: int) -> tuple[NDArray[np.int64], Vectors]:
        """Return pool positions [scored] and representations [scored, hidden]. Raises DamagedShardError.

        Float32 as stored; float64 where the shard is stored as float16.
        """
        tensors = safetensors.numpy.load(self.files.read(shard, VECTORS))
        return tensors["rows"], self._decoded(shard, tensors, "representations")

    def instruction_representations(self, shard: int) -> Vectors | None:
        """Return the second vectors of the scored rows [scored, hidden], NaN in rows without one.

        None where none were asked for. The number type is that of `representations`.
        """
        return decode_vectors(safetensors.numpy.load(self.files.read(shard, VECTORS)), "instruction_representations")

    def rows(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a shard as a table of `ROWS_SCHEMA`, or some of its columns. Raises DamagedShardError."""
        return table_from_bytes(self.files.read(shard, ROWS), columns)

    def all_rows(self, shards: range, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of all shards as one table, in pool order."""
        wanted = None if columns is None else list(dict.fromkeys([*columns, "row"]))
        table = pa.concat_tables([self.rows(shard, wanted) for shard in shards]).combine_chunks()
        rows = table["row"].to_numpy()
        if (rows[1:] < rows[:-1]).any():  # shards in image order
            table = table.take(pa.array(np.argsort(rows)))
        return table if columns is None else table.select(columns)

    def blocks(self, shards: range, kind: Kind = "representations") -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Yield pool positions and vectors shard by shard, in order, without the shards that have none.

        Parameters
        ----------
        kind
            `representations`, or `instruction_representations` of the rows that have one: those whose vector is NaN
            are left out.

        Raises
        ------
        DamagedShardError
            If a shard's file is not what was published, or holds no vectors of this kind.
        """
        for shard in shards:
            tensors = safetensors.numpy.load(self.files.read(shard, VECTORS))
            rows, vectors = tensors["rows"], self._decoded(shard, tensors, kind)
            if kind == "instruction_representations":
                there = ~np.isnan(vectors).all(axis=1)  # [scored]
                rows, vectors = rows[there], vectors[there]
            if len(rows):
                yield rows, vectors

    def vectors_at(self, shards: range, rows: NDArray[np.int64], kind: Kind = "representations") -> Vectors:
        """Return the vectors of a few pool rows, read without the rest of their shards.

        Parameters
        ----------
        rows
            Pool positions, ascending, each once and each with a representation, int64 [wanted].

        Returns
        -------
        The number type is that of `representations`, [wanted, hidden].

        Raises
        ------
        ValueError
            If a row has no such vector.
        DamagedShardError
            If a file is missing, or not whole.
        """
        found: list[NDArray[Any]] = []
        places: list[NDArray[np.int64]] = []
        for shard in shards:
            with self.files.opened_vectors(shard) as stored:
                here = stored.get_tensor("rows")  # [scored]
                if not here.size or not rows.size:
                    continue
                place = np.searchsorted(rows, here)  # [scored]
                wanted = np.flatnonzero(rows[np.minimum(place, rows.size - 1)] == here)
                vectors = read_vectors(stored, kind, wanted) if wanted.size else None
                if vectors is not None:
                    found.append(vectors)
                    places.append(place[wanted])
        order = np.concatenate([*places, np.empty(0, dtype=np.int64)])  # [found]
        if order.size != rows.size:
            raise ValueError(f"{rows.size - order.size} of {rows.size} rows have no {kind}")
        return np.concatenate(found)[np.argsort(order)] if found else np.empty((0, 0), dtype=np.float32)

    def digest(self, shards: range) -> str:
        """Return one hash over the contents of all shards, from their reports."""
        digest = hashlib.sha256()
        for report in self.reports(shards):
            for name in sorted(report.files):
                digest.update(f"{name} {report.files[name]['sha256']}\n".encode())
        return digest.hexdigest()

    def _decoded(self, shard: int, tensors: dict[str, NDArray[Any]], kind: Kind) -> Vectors:
        vectors: Vectors | None = decode_vectors(tensors, kind)
        if vectors is None:
            raise DamagedFileError(
                f"shard {shard} holds no {kind}: {self.files.path(shard, VECTORS)} (--vectors says what is stored)"
            )
        return vectors


def _count(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))

"""Vectors made elsewhere become the representations of a run folder, shard by shard. No torch.

What follows, scoring and selecting, is that of every run; there are no records to copy, only rows to name.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.account_checks import check_reports, check_shard
from scalselect.damaged_shards import set_aside_damaged
from scalselect.dataset.vector_files import open_vectors
from scalselect.records import Reason, RowIdentity, RowRecord
from scalselect.remote_files import is_remote
from scalselect.run_json import refuse_other_keys
from scalselect.segments import segments_of, shards_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.dataset.vector_arrays import VectorFile
    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder

NUMERICS_VERSION = 1  # raised whenever the same file would give other stored vectors
_SHARD_BYTES = 64 * 2**20
_SHARD_ROWS = 10_000
_NOT_FINITE = "the vector holds NaN or infinity"


def import_vectors(
    folder: RunFolder,
    path: str | Path,
    *,
    shard_size: int | None = None,
    threads: int | None = None,
    progress: Progress,
) -> None:
    """Make a run folder of a file of vectors, or finish one that was interrupted; see `open_vectors` for the file.

    Rows whose vector is not finite are skipped and counted. A second vector without any number, all NaN, means that
    a row has none. Vectors in float64 stay float64.

    Parameters
    ----------
    shard_size
        Rows a shard; default: what the run has, else as many as hold about 64 MiB, at most 10,000.
    threads
        CPU threads of scoring, recorded; default: what the run has, else those that this process may use.

    Raises
    ------
    MisuseError
        Before any work: the file cannot be used, or the folder belongs to another run.
    DataChangedError
        If the file changed meanwhile.
    """
    folder.check_usable()
    recorded = folder.read()
    before = None if recorded is None else recorded["represent"]
    vectors = open_vectors(path)
    progress.say(_description(vectors, path if is_remote(path) else vectors.path))
    keys = _keys(vectors, before or {}, shard_size, threads)
    if before is not None:
        refuse_other_keys(before, keys, folder.path)
    else:
        folder.create(_run_json(vectors, keys))
    shards = shards_of({"represent": keys})
    if before is not None:
        set_aside_damaged(folder, segments_of({"represent": keys}), progress)
    reports = [folder.store.report(shard) for shard in shards if folder.store.is_published(shard)]
    done = sum(report.stop - report.start for report in reports)
    progress.start(vectors.rows, done, sum(report.counts.get("skipped", 0) for report in reports))
    try:
        for shard in shards:
            if not folder.store.is_published(shard):
                span = range(shard * keys["shard_size"], min((shard + 1) * keys["shard_size"], vectors.rows))
                _publish(folder, vectors, shard, span, progress)
    finally:
        progress.stop()
    check_reports([folder.store.report(shard) for shard in shards], range(vectors.rows))


def _publish(folder: RunFolder, vectors: VectorFile, shard: int, span: range, progress: Progress) -> None:
    vectors.check_unchanged()
    began = time.perf_counter()
    block = vectors.read(span.start, span.stop)  # [rows, hidden]
    instruction = vectors.read_instruction(span.start, span.stop)  # [rows, hidden]
    ids = vectors.ids(span.start, span.stop)
    vectors.check_unchanged()
    usable = _rows_all(np.isfinite, block)  # [rows]
    if instruction is not None:
        usable &= _rows_all(np.isfinite, instruction) | _rows_all(np.isnan, instruction)
    records = [
        _record(RowIdentity(row, vectors.path.stem, *identity), usable=bool(ok))
        for row, identity, ok in zip(span, ids, usable, strict=True)
    ]
    if not usable.all():
        block = block[usable]
        instruction = None if instruction is None else instruction[usable]
    facts: dict[str, Any] = {
        "seconds": {"read": time.perf_counter() - began},
        "device": "none",
        "split_batches": 0,
        "reuse": {},
        "versions": _versions(),
    }
    check_shard(span, records, len(block))
    folder.store.publish(shard, span, records, block, facts, instruction_representations=instruction)
    for record in records:
        progress.row(record.status)


def _record(identity: RowIdentity, *, usable: bool) -> RowRecord:
    if usable:
        return RowRecord(identity=identity, status="scored")
    return RowRecord(identity=identity, status="skipped", reason=Reason.NOT_FINITE, detail=_NOT_FINITE)


def _rows_all(test: np.ufunc, block: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows pass a test in every dimension, bool [rows]."""
    return np.array([test(row).all() for row in block], dtype=np.bool_)


def _keys(vectors: VectorFile, recorded: dict[str, Any], shard_size: int | None, threads: int | None) -> dict[str, Any]:
    """Return the `represent` group of run.json."""
    second = 2 if vectors.has_instruction else 1
    fitting = _SHARD_BYTES // (vectors.hidden * vectors.dtype.itemsize * second)
    return {
        "representations": vectors.path.name,
        "data_format": vectors.path.suffix.lower().removeprefix("."),
        **{f"data_{name}": value for name, value in vectors.fingerprint().items()},
        "rows": vectors.rows,
        "hidden": vectors.hidden,
        "dtype": str(vectors.dtype),
        "vectors": "vision+instruction" if vectors.has_instruction else "vision",
        "limit": None,
        "shard_size": shard_size or recorded.get("shard_size") or min(max(fitting, 1), _SHARD_ROWS),
        "threads": threads or recorded.get("threads") or _usable_cpus(),
        "numerics_version": NUMERICS_VERSION,
    }


def _run_json(vectors: VectorFile, keys: dict[str, Any]) -> dict[str, Any]:
    return {
        "represent": keys,
        "score": None,
        "select": None,
        "data": {"path": None, "source": vectors.path.stem},
        "model": None,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _description(vectors: VectorFile, place: str | Path) -> str:
    second = ", a second vector each" if vectors.has_instruction else ""
    ignored = f"; not read: {', '.join(vectors.ignored)}" if vectors.ignored else ""
    return f"vectors: {vectors.rows:,} rows of {vectors.hidden:,} {vectors.dtype}{second} from {place}{ignored}"


def _usable_cpus() -> int:
    """Return the CPUs this process may use, or fewer where the environment asks for fewer."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(asked)) if asked.isdecimal() and int(asked) > 0 else usable


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("scalselect", "numpy", "pyarrow", "safetensors")}

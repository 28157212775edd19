"""Run folders of many rows, with made-up vectors and facts of rows: what a report of a large pool is made from."""

from __future__ import annotations

import numpy as np

import scalselect
from scalselect.config import select_config
from scalselect.dataset.opening import open_pool
from scalselect.progress import Silent
from scalselect.records import Reason, RowIdentity, RowRecord
from scalselect.run_folder import RunFolder
from scalselect.scores_file import read_scores
from scalselect.select_work import select_run

SHARD = 50_000
FACTS = {"seconds": {}, "device": "cpu", "split_batches": 0, "reuse": {}, "versions": {}}
NAMES = ("coco", "charts", "ocr", "documents")


def large_run(path, rows, *, hidden=32, budget="16%", seed=0, data=None):
    """Write the run folder of so many rows of four data sets, scored and selected, and return its path.

    One row in 50 is text-only, one in 100 was skipped. Without `data`, a file of so many records, there are none: the
    data were a Python object.
    """
    rng = np.random.default_rng(seed)
    run = RunFolder(path)
    represent = {
        "rows": rows,
        "shard_size": SHARD,
        "threads": 1,
        "limit": None,
        "vectors": "vision",
        "images": "",
        "dtype": "float32",
    }
    fingerprint = {"data_sha256": "0" * 64, "data_bytes": 1, "data_records": rows, "data_format": "llava"}
    if data is not None:
        pool = open_pool(data)
        fingerprint = {
            "data_format": pool.format,
            **{f"data_{key}": value for key, value in pool.fingerprint().items()},
        }
    place = {"path": None if data is None else str(data), "source": "pool"}
    groups = {"represent": {**represent, **fingerprint}, "score": None, "select": None}
    run.create({**groups, "data": place, "model": "owner/model"})
    directions = np.linalg.qr(rng.normal(size=(hidden, hidden)))[0] * np.linspace(1, 0.02, hidden)[:, None] ** 2
    for shard, begin in enumerate(range(0, rows, SHARD)):
        span = range(begin, min(begin + SHARD, rows))
        records = [_line(row) for row in span]
        kept = sum(record.status == "scored" for record in records)
        weights = rng.lognormal(sigma=0.7, size=(kept, 1)) * rng.normal(size=(kept, hidden))
        run.store.publish(shard, span, records, (weights @ directions + 3).astype(np.float32), FACTS)
    scalselect.score(path)
    with run.claimed():
        select_run(run, None, select_config({"budget": budget}), Silent())
    assert read_scores(run.scores) is not None
    return path


def _line(row):
    kind = "skipped" if row % 100 == 7 else "text_only" if row % 50 == 3 else "scored"
    reasons = (Reason.IMAGE_MISSING, Reason.IMAGE_UNREADABLE, Reason.TOO_LONG)
    return RowRecord(
        identity=RowIdentity(row, NAMES[row % 7 % 4], f"{NAMES[row % 7 % 4]}-{row}", "string"),
        status=kind,
        reason=reasons[row % 3] if kind == "skipped" else None,
        turns=2 * (1 + row % 5 // 2),
        images=int(kind != "text_only"),
        image_sha256=() if kind == "text_only" else (f"{row // 3:064x}",),
        text_sha256=f"{row:064x}",
        tokens=600 + row % 900 if kind == "scored" else None,
        vision_tokens=576 if kind == "scored" else None,
        kept_tokens=300 if kind == "scored" else None,
    )

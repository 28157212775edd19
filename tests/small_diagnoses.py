"""Run folders with known vectors, and what a diagnosis of a choice in them needs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from scalselect.diagnose_work import Material
from scalselect.records import (
    DominantSubspace,
    Reason,
    RowIdentity,
    RowRecord,
    Sample,
    TextPart,
    Turn,
    UnusableRecord,
)
from scalselect.run_folder import RunFolder

HIDDEN, SHARD = 12, 50


class Answers:
    """Samples whose answer is a function of the row."""

    def __init__(self, answer):
        self._answer = answer

    def samples_at(self, rows):
        for row in rows:
            identity = RowIdentity(int(row), "pool", None, "absent")
            if self._answer(int(row)) is None:
                yield UnusableRecord(identity, Reason.INVALID_RECORD, "broken")
                continue
            turns = (Turn("user", (TextPart("?"),)), Turn("assistant", (TextPart(self._answer(int(row))),)))
            yield Sample(identity, turns, (), images_in_front=False, text_sha256="")


def write_run(path, X, **facts):
    """Write run.json and shards of vectors X [rows, hidden]; see `write_shards`."""
    run = RunFolder(path)
    represent = {"rows": len(X), "shard_size": SHARD, "threads": 1}
    run.create({"represent": represent, "score": {"energy": 0.9}, "select": None, "data": {"path": None}})
    write_shards(run, X, **facts)
    return run


def write_shards(
    run, X, *, skipped=(), images=lambda row: f"image-{row}", text=lambda row: f"text-{row}", shard_size=SHARD
):
    """Write shards of vectors X [rows, hidden], and what is known of their rows; skipped ones have no vector."""
    facts = {"seconds": {}, "device": "cpu", "split_batches": 0, "reuse": {}, "versions": {}}
    for shard, start in enumerate(range(0, len(X), shard_size)):
        span = range(start, min(start + shard_size, len(X)))
        records = [
            RowRecord(
                identity=RowIdentity(row, "pool", None, "absent"),
                status="skipped" if row in skipped else "scored",
                turns=2 + 2 * (row % 2),
                tokens=30 + 40 * (row % 2),
                vision_tokens=10,
                images=1,
                image_sha256=() if images(row) is None else (images(row),),
                text_sha256=text(row),
            )
            for row in span
        ]
        kept = [row for row in span if row not in skipped]
        run.store.publish(shard, span, records, X[kept], facts)


def material(run, X, chosen, *, skipped=(), k=2, answer=lambda _: "yes", **changes):
    """Score with a plain SVD and gather what `diagnose` needs."""
    scored = np.array([row for row in range(len(X)) if row not in skipped])
    mean = X[scored].astype(np.float64).mean(axis=0)
    U, s, Vt = np.linalg.svd(X[scored] - mean, full_matrices=False)
    subspace = DominantSubspace(
        mean=mean,
        basis=Vt[:k].T,
        singular_values=s[:k],
        energy=float(np.sum(s[:k] ** 2) / np.sum(s**2)),
        gap=float(s[k - 1] / s[k]),
        largest_dimension_energy=0.5,
        rows=scored.size,
        spectrum=s,
        total_energy=float(np.sum(s**2)),
    )
    score = np.full(len(X), np.nan)
    score[scored] = np.sum(U[:, :k] ** 2, axis=1)
    known = {
        "folder": run,
        "shards": range(-(-len(X) // SHARD)),
        "pool": Answers(answer),
        "table": pa.table(
            {
                "status": ["skipped" if row in skipped else "scored" for row in range(len(X))],
                "leverage_score": pa.array(score, mask=np.isnan(score)),
                "source": ["a" if row < len(X) // 2 else "b" for row in range(len(X))],
                "stratum": pa.nulls(len(X), pa.string()),
            }
        ),
        "chosen": np.asarray(chosen, dtype=np.int64),
        "eligible": scored,
        "subspace": subspace,
        "coordinates": U[:, :k].astype(np.float32),
        "seed": 0,
        "near_bound": 0.95,
    }
    return Material(**{**known, **changes})


def two_clusters(rows=300):
    """Return vectors of two clusters, rows alternating between them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, HIDDEN)) * np.array([2.0, 1.0] + [0.05] * (HIDDEN - 2))
    X[::2, 0] += 30
    return X.astype(np.float32)

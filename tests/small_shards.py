"""Small shards for tests of the representation store."""

from __future__ import annotations

import numpy as np

from scalselect.records import Reason, RowIdentity, RowRecord

FACTS = {
    "seconds": {"model": 1.5},
    "device": "cpu",
    "split_batches": 2,
    "reuse": {"images_reused": 3},
    "versions": {"torch": "2"},
}


def identity(row, id_=None, id_type="absent"):
    return RowIdentity(row, "pool", id_, id_type)


def scored(row, **known):
    return RowRecord(identity=identity(row), status="scored", tokens=10, vision_tokens=4, kept_tokens=2, **known)


def skipped(row, reason=Reason.IMAGE_MISSING):
    return RowRecord(identity=identity(row), status="skipped", reason=reason, detail="no file")


def mixed_shard(start=0):
    """Return records of five rows, three of them scored, and their representations."""
    records = [
        scored(start),
        skipped(start + 1),
        scored(start + 2),
        RowRecord(identity=identity(start + 3), status="text_only"),
        scored(start + 4),
    ]
    vectors = np.random.default_rng(start).normal(size=(3, 8)).astype(np.float32)
    return range(start, start + 5), records, vectors

"""Run folders whose shards hold made-up vectors and hashes, as a model would leave them, scored and ready to select."""

from __future__ import annotations

import hashlib
import json

import numpy as np

import scalselect
from scalselect.dataset.opening import open_pool
from scalselect.records import Reason, RowIdentity, RowRecord
from scalselect.run_folder import RunFolder

SHARD_SIZE = 50
FACTS = {"seconds": {"model": 0.5}, "device": "cpu", "split_batches": 0, "reuse": {}, "versions": {}}


def hashed(text):
    return hashlib.sha256(text.encode()).hexdigest()


def clustered_vectors(rows, seed=0, hidden=24):
    """Return float32 [rows, hidden]: a few broad directions and noise."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(rows, 6)) * np.linspace(4, 1, 6)) @ rng.normal(size=(6, hidden))
    return (X + 0.3 * rng.normal(size=(rows, hidden)) + 5).astype(np.float32)


def scored_run(
    folder, vectors, *, records=None, images=None, texts=None, instruction=None, unusable=(), text_only=(), score=True
):
    """Write a data file and the run folder of its representations, score it, and return the run folder's path.

    `images` are names of the pictures that each row shows, `texts` what its conversation says: equal names and texts
    have equal hashes. Rows in `unusable` were skipped, those in `text_only` show no picture.
    """
    rows = len(vectors)
    images = images or [[] if row in text_only else [f"{row}.png"] for row in range(rows)]
    texts = texts or [f"question {row}" for row in range(rows)]
    records = records or [{"id": f"row-{row}", "source": "vqa" if row % 3 else "ocr"} for row in range(rows)]
    whole = [
        {
            **record,
            **({"image": shown} if shown else {}),
            "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "yes"}],
        }
        for record, shown, text in zip(records, images, texts, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "pool.json"
    data.write_text(json.dumps(whole), encoding="utf-8")
    pool = open_pool(data)
    run = RunFolder(folder / "run")
    represent = {
        "rows": rows,
        "shard_size": SHARD_SIZE,
        "threads": 1,
        "limit": None,
        "vectors": "vision" if instruction is None else "vision+instruction",
        "data_format": pool.format,
        **{f"data_{name}": value for name, value in pool.fingerprint().items()},
    }
    run.create({"represent": represent, "score": None, "select": None, "data": {"path": str(data), "source": "pool"}})
    for shard, begin in enumerate(range(0, rows, SHARD_SIZE)):
        span = range(begin, min(begin + SHARD_SIZE, rows))
        lines = [line_of(row, whole[row].get("id"), images[row], texts[row], row in unusable) for row in span]
        kept = [row for row in span if row not in unusable and row not in text_only]
        second = None if instruction is None else instruction[kept]
        run.store.publish(shard, span, lines, vectors[kept], FACTS, instruction_representations=second)
    if score:
        scalselect.score(run.path)
    return run.path


def line_of(row, id_, images, text, unusable):
    status = "skipped" if unusable else "scored" if images else "text_only"
    id_type = "absent" if id_ is None else "string" if isinstance(id_, str) else "number"
    return RowRecord(
        identity=RowIdentity(row, "pool", None if id_ is None else str(id_), id_type),
        status=status,
        reason=Reason.IMAGE_MISSING if unusable else None,
        images=len(images),
        image_sha256=tuple(map(hashed, images)),
        image_bytes=(1,) * len(images),
        text_sha256=hashed(text),
        tokens=None if status == "text_only" else 10,
        vision_tokens=None if status == "text_only" else 4,
        kept_tokens=None if status == "text_only" else 2,
        turns=2,
    )

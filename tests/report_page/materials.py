"""Small materials for sections of the page, without a run folder."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from scalselect.report_page.material import Material
from scalselect.report_page.shown_rows import shown_rows
from scalselect.scores_file import SCORES_SCHEMA


def table_of(rows, *, skipped=(), source=None, stratum=None, decided=True, ids=None, seed=0):
    """Return scores of so many rows; the third with the highest scores is chosen."""
    scores = np.round(np.random.default_rng(seed).random(rows), 12)
    scored = np.array([row not in skipped for row in range(rows)], dtype=np.bool_)
    order = np.flatnonzero(scored)[np.argsort(-scores[scored], kind="stable")]
    rank = np.zeros(rows, dtype=np.int64)
    rank[order] = np.arange(1, order.size + 1)
    selected = np.zeros(rows, dtype=np.bool_)
    selected[order[: order.size // 3]] = True
    columns = {
        "row": np.arange(rows),
        "source": source or ["pool"] * rows,
        "id": ids or [f"id-{row}" for row in range(rows)],
        "id_type": ["string"] * rows,
        "status": ["scored" if each else "skipped" for each in scored],
        "reason": [None if each else "image_missing" for each in scored],
        "leverage_score": pa.array(scores, mask=~scored),
        "rank": pa.array(rank, mask=~scored),
        "selected": pa.array(selected) if decided else pa.nulls(rows, pa.bool_()),
        "stratum": pa.array(stratum, pa.string()) if stratum else pa.nulls(rows, pa.string()),
    }
    return pa.table(columns, schema=SCORES_SCHEMA)


def material_of(rows=60, *, k=6, samples=None, no_samples=None, explanations=None, details=None, most=5, **options):
    """Return a material whose store says of skipped rows what `details` holds."""
    table = table_of(rows, **options)
    scored = table["leverage_score"].drop_null()
    details = details or {}

    def stored(_shard, _columns):
        return pa.table({"row": pa.array(range(rows)), "detail": pa.array(map(details.get, range(rows)), pa.string())})

    return Material(
        folder=SimpleNamespace(store=SimpleNamespace(rows=stored)),
        shards=range(1),
        run={"represent": {"rows": rows, "shard_size": rows, "order": "pool"}, "select": {"seed": 0}},
        table=table,
        selection=None,
        diagnostics=None,
        singular_values=np.linspace(2, 1, k),
        coordinates=np.random.default_rng(1).normal(size=(len(scored), k)).astype(np.float32),
        shown=shown_rows(table, most),
        samples=samples or {},
        no_samples=no_samples,
        explanations=explanations,
    )

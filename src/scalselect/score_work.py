"""Stage 2 over a run folder: two reads of the store, then subspace and scores on disk. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from scalselect.errors import WorkError
from scalselect.run_folder import SCORES_SCHEMA
from scalselect.selection.ranking import rank_rows
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.config import ScoreConfig
    from scalselect.records import DominantSubspace
    from scalselect.representation_store import RepresentationStore
    from scalselect.run_folder import RunFolder


def shards_of(represent: dict[str, Any]) -> range:
    """Return the numbers of all shards of a run, from the `represent` group of its run.json."""
    return range(-(-represent["rows"] // represent["shard_size"]))


def score_run(folder: RunFolder, config: ScoreConfig) -> DominantSubspace:
    """Score every representation of a run and write `subspace.safetensors`, then `scores.parquet`.

    Does nothing where both were made from the same shards with the same options.

    Raises
    ------
    WorkError
        If shards are missing, nothing could be represented, or all representations are equal.
    """
    run = folder.require()
    shards = shards_of(run["represent"])
    missing = [shard for shard in shards if not folder.store.is_published(shard)]
    if missing:
        raise WorkError(
            f"{len(missing)} of {len(shards)} shards are not represented yet (first: {missing[0]}): repeat the "
            "`scalselect run` or `scalselect represent` command that made this folder"
        )
    inputs = {"score": {"energy": config.energy}, "store": folder.store.digest(shards)}
    folder.update(score=inputs["score"])
    if folder.has_scores_from(inputs):
        return folder.read_subspace()
    # The number of threads decides the last digits of sums, so it is the recorded one.
    with threadpool_limits(limits=run["represent"]["threads"]):
        subspace = _subspace(folder.store, shards, config)
        rows, scores = _scores(folder.store, shards, subspace)
    folder.write_subspace(subspace, inputs)
    folder.write_scores(_table(folder.store, shards, rows, scores), inputs)
    return subspace


def _subspace(store: RepresentationStore, shards: range, config: ScoreConfig) -> DominantSubspace:
    sums: ScatterSums | None = None
    for _, block in store.blocks(shards):
        if sums is None:
            sums = ScatterSums(shift_from(block))
        sums.add(block)
    if sums is None:
        raise WorkError("no row of the pool has a representation; see `reason` in the shards' rows for why")
    return dominant_subspace(sums, energy=config.energy)


def _scores(
    store: RepresentationStore, shards: range, subspace: DominantSubspace
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    parts = [(rows, as_written(leverage_scores(block, subspace))) for rows, block in store.blocks(shards)]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([scores for _, scores in parts])


def _table(store: RepresentationStore, shards: range, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> pa.Table:
    known = store.all_rows(shards, ["row", "source", "id", "id_type", "status", "reason"])
    count = known.num_rows
    values, ranks, has = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    values[rows], ranks[rows], has[rows] = scores, rank_rows(scores, rows), True
    columns = {name: known[name] for name in known.column_names}
    columns["leverage_score"] = pa.array(values, mask=~has)
    columns["rank"] = pa.array(ranks, mask=~has)
    columns["selected"] = pa.nulls(count, pa.bool_())
    columns["stratum"] = pa.nulls(count, pa.string())
    return pa.table(columns, schema=SCORES_SCHEMA)

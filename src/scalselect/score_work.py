"""Stage 2 over a run folder: two reads of the store, then subspace and scores on disk. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from scalselect.errors import WorkError
from scalselect.run_folder import SCORES_SCHEMA, shards_of
from scalselect.selection.ranking import rank_rows
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.config import ScoreConfig
    from scalselect.progress import Progress
    from scalselect.records import DominantSubspace
    from scalselect.representation_store import RepresentationStore
    from scalselect.run_folder import RunFolder


def score_run(folder: RunFolder, config: ScoreConfig, progress: Progress) -> DominantSubspace:
    """Score every representation of a run and write `subspace.safetensors`, then `scores.parquet`.

    Does nothing where both were made from the same shards with the same options. The caller holds the folder's claim.

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
    if not folder.has_scores_from(inputs):
        before = run.get("score")
        if before is None or before == inputs["score"]:
            progress.say("scoring")
        else:
            progress.say(f"scoring again: energy {before.get('energy')} before, {config.energy} now")
        # The number of threads decides the last digits of sums, so it is the recorded one.
        with threadpool_limits(limits=run["represent"]["threads"]):
            subspace = _subspace(folder.store, shards, config)
            rows, scores = _scores(folder.store, shards, subspace)
        # A choice made by other scores is none any more.
        folder.forget_selection()
        folder.update(select=None)
        folder.write_subspace(subspace, inputs)
        folder.write_scores(_table(folder.store, shards, rows, scores), inputs)
    folder.update(score=inputs["score"])
    return folder.read_subspace()


def _subspace(store: RepresentationStore, shards: range, config: ScoreConfig) -> DominantSubspace:
    sums: ScatterSums | None = None
    for _, block in store.blocks(shards):
        if sums is None:
            sums = ScatterSums(shift_from(block))
        part = ScatterSums(sums.shift)
        part.add(block)
        sums.merge(part)
    if sums is None:
        counts = pc.value_counts(store.all_rows(shards, ["status"])["status"]).to_pylist()
        told = ", ".join(f"{item['counts']:,} {item['values'].replace('_', '-')}" for item in counts)
        raise WorkError(f"no row of the pool has a representation: {told}")
    return dominant_subspace(sums, energy=config.energy)


def _scores(
    store: RepresentationStore, shards: range, subspace: DominantSubspace
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    parts = [(rows, as_written(leverage_scores(block, subspace))) for rows, block in store.blocks(shards)]
    rows = np.concatenate([rows for rows, _ in parts])
    scores = np.concatenate([scores for _, scores in parts])
    order = np.argsort(rows)  # shards may be in image order; the first copy is the first of the pool
    rows, scores = rows[order], scores[order]
    return rows, scores[_first_copies(store, shards, rows)]


def _first_copies(store: RepresentationStore, shards: range, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each scored row the place of the first one with the same images and conversation, int64 [scored].

    Exact copies must tie, but the batch that a sample fell into leaves its mark in the last digits of its float32
    vector: copies get the score of the first of them.
    """
    known = store.all_rows(shards, ["row", "text_sha256", "image_sha256"]).take(pa.array(rows))
    images = pc.binary_join(known["image_sha256"], " ")
    keys = pc.binary_join_element_wise(known["text_sha256"], images, " ")
    # A row whose content has no hash is like no other.
    codes = (
        pc.coalesce(keys, pc.cast(known["row"], pa.string())).combine_chunks().dictionary_encode().indices.to_numpy()
    )  # [scored]
    first = np.unique(codes, return_index=True)[1].astype(np.int64)  # [different]
    places: NDArray[np.int64] = first[codes]  # [scored]
    return places


def _table(store: RepresentationStore, shards: range, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> pa.Table:
    known = store.all_rows(shards, ["row", "source", "id", "id_type", "status", "reason"])
    count = known.num_rows
    values, ranks, has = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    values[rows], ranks[rows], has[rows] = scores, rank_rows(scores, rows), True
    columns: dict[str, Any] = {name: known[name] for name in known.column_names}
    columns["leverage_score"] = pa.array(values, mask=~has)
    columns["rank"] = pa.array(ranks, mask=~has)
    columns["selected"] = pa.nulls(count, pa.bool_())
    columns["stratum"] = pa.nulls(count, pa.string())
    return pa.table(columns, schema=SCORES_SCHEMA)

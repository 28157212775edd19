"""Stage 2 over a run folder: two reads of the store, then subspace and scores on disk. No torch."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from scalselect.account_checks import check_scores
from scalselect.coordinates_file import writing_coordinates
from scalselect.engine_options import EngineConfig
from scalselect.engines.torchrun_engine import rank_of_environment
from scalselect.errors import WorkError
from scalselect.row_content import content_keys
from scalselect.score_crew import score_crew, share_parts
from scalselect.score_parts import ScoreParts
from scalselect.scores_file import SCORES_SCHEMA, scores_made_from
from scalselect.segments import segments_of, shards_of
from scalselect.selection.exact_copies import first_copies
from scalselect.selection.ranking import rank_rows
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.scatter import ScatterSums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from scalselect.config import ScoreConfig
    from scalselect.progress import Progress
    from scalselect.records import DominantSubspace
    from scalselect.representation_store import RepresentationStore
    from scalselect.run_folder import RunFolder
    from scalselect.score_crew import ScoreCrew
    from scalselect.stored_vectors import Kind


def score_run(
    folder: RunFolder, config: ScoreConfig, progress: Progress, engine: EngineConfig | None = None
) -> DominantSubspace:
    """Score every representation of a run and write subspaces and coordinates, last `scores.parquet`.

    Does nothing where both were made from the same shards with the same options. The caller holds the folder's claim.

    Parameters
    ----------
    engine
        Who does the two passes over the vectors; None: this process.

    Raises
    ------
    WorkError
        If shards are missing, nothing could be represented, or all representations are equal.
    """
    run, shards, inputs = _inputs(folder, config)
    made_from, fault = folder.state_of_scores()
    parts = ScoreParts(folder, shards, config, inputs)
    if made_from != inputs:
        if fault is not None:
            progress.warn(f"{fault}: scoring again")
        else:
            progress.say(_words(run.get("score"), inputs["score"]))
        with (
            score_crew(
                parts, folder, config, inputs=inputs, engine=engine or EngineConfig(), progress=progress
            ) as crew,
            # The number of threads decides the last digits of sums, so it is the recorded one.
            threadpool_limits(limits=run["represent"]["threads"]),
        ):
            _score(folder, shards, parts, config, crew, inputs=inputs, progress=progress)
    parts.remove()
    folder.update(score=inputs["score"])
    return folder.read_subspace()


def share_scoring(folder: RunFolder, config: ScoreConfig, progress: Progress) -> None:
    """Do the two passes over the vectors together with the other processes of a launcher; `score_run` does the rest.

    Every process of the launcher calls it, before it claims the folder. Does nothing in a process that is alone.

    Raises
    ------
    WorkError
        As `score_run`.
    """
    rank = rank_of_environment()
    if rank is None:
        return
    run, shards, inputs = _inputs(folder, config)
    parts = ScoreParts(folder, shards, config, inputs)

    def is_over() -> bool:
        return scores_made_from(folder.scores) == inputs

    if len(parts) == 1 or is_over():
        return
    progress.say(f"{len(parts)} parts are scored by {rank.world} processes")
    with threadpool_limits(limits=run["represent"]["threads"]):
        has_instructions = run["represent"].get("vectors") == "vision+instruction"
        for kind in ("representations", *(("instruction_representations",) if has_instructions else ())):
            share_parts(parts, kind, folder, rank, is_over)
        with folder.claimed(lambda _holder: None):
            if is_over():
                return
            if parts.read_subspaces() is None:
                subspace = _subspace(parts, "representations", config, None)[1]
                if subspace is None:  # no row has a vector, which `score_run` tells
                    return
                second = _instruction_subspace(parts, config, None, progress) if has_instructions else None
                parts.write_subspaces([subspace, second])
        share_parts(parts, "projection", folder, rank, is_over)


def _inputs(folder: RunFolder, config: ScoreConfig) -> tuple[dict[str, Any], range, dict[str, Any]]:
    """Return run.json, the shards of the run, and what scores are made from. Raises WorkError if shards are missing."""
    run = folder.require()
    shards = shards_of(run)
    missing, first = folder.store.files.missing(shards)
    if first is not None:
        raise WorkError(
            f"{missing} of {len(shards)} shards are not represented yet (first: {first}): repeat "
            f"{command_for(run, first, folder)}"
        )
    return run, shards, {"score": asdict(config), "store": folder.store.digest(shards)}


def command_for(run: Mapping[str, Any], shard: int, folder: RunFolder) -> str:
    """Return in words which command represents a shard: the one that added its segment to the run."""
    if "representations" in run["represent"]:
        return "the `scalselect score --representations` command that made this folder"
    segment = next(segment for segment in segments_of(run) if shard in segment.shards)
    if segment.first_row == 0:
        return "the `scalselect run` or `scalselect represent` command that made this folder"
    return f"`scalselect extend {shlex.quote(str(folder.path))} {shlex.quote(str(segment.path))}`"


def _words(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    if before is None or before == now:
        return "scoring"
    given = [name for name in now if name != "energy" or now.get("rank") is None]  # a rank has its own energy
    changed = [f"{name} {before.get(name)} before, {now[name]} now" for name in given if before.get(name) != now[name]]
    return f"scoring again: {', '.join(changed)}"


def _score(
    folder: RunFolder,
    shards: range,
    parts: ScoreParts,
    config: ScoreConfig,
    crew: ScoreCrew | None,
    *,
    inputs: Mapping[str, Any],
    progress: Progress,
) -> None:
    store = folder.store
    rows, subspace = _subspace(parts, "representations", config, crew)
    if subspace is None:
        counts = pc.value_counts(store.all_rows(shards, ["status"])["status"]).to_pylist()
        told = ", ".join(f"{item['counts']:,} {item['values'].replace('_', '-')}" for item in counts)
        raise WorkError(f"no row of the pool has a representation: {told}")
    has_instructions = folder.require()["represent"].get("vectors") == "vision+instruction"
    instruction = _instruction_subspace(parts, config, crew, progress) if has_instructions else None
    subspaces = [subspace, instruction]
    if crew is not None:
        parts.write_subspaces(subspaces)
        crew.publish("projection")
    # A choice made by other scores is none any more, and the old scores vouch for files that are written anew.
    folder.forget_selection()
    folder.scores.unlink(missing_ok=True)
    folder.update(select=None)
    folder.write_subspace(subspace, inputs)
    folder.write_instruction_subspace(instruction, inputs)
    ranks = {"vision": subspace.rank} | ({} if instruction is None else {"instruction": instruction.rank})
    with writing_coordinates(folder.coordinates, rows, ranks, inputs) as writer:
        scores = np.empty(rows.size)  # [scored]
        for found in parts.projections(subspaces):
            scores[np.searchsorted(rows, found.rows)] = found.leverage
            writer.write("norms", found.rows, found.norms)
            writer.write("vision", found.rows, found.coordinates)
            if instruction is not None:
                writer.write("instruction", found.instruction_rows, found.instruction)
    # Exact copies must tie, but the batch that a sample fell into leaves its mark in the last digits of its float32
    # vector: copies get the score of the first of them.
    copy_of = first_copies(content_keys(store, shards)[rows])  # [scored]
    scores = np.where(copy_of >= 0, scores[copy_of], scores)
    table = _table(store, shards, rows, scores)
    check_scores(table)
    folder.write_scores(table, inputs)


def _subspace(
    parts: ScoreParts, kind: Kind, config: ScoreConfig, crew: ScoreCrew | None
) -> tuple[NDArray[np.int64], DominantSubspace | None]:
    """Return the pool positions of all rows, ascending, int64 [scored], and their subspace; None without rows."""
    if crew is not None:
        crew.publish(kind)
    sums: ScatterSums | None = None
    places = [np.empty(0, dtype=np.int64)]
    for rows, part in parts.sums(kind, last=crew is not None):  # in order, wherever each was summed
        places.append(rows)
        if part is not None:
            sums = sums or ScatterSums(part.shift)
            sums.merge(part)
    if sums is None:
        return places[0], None
    subspace = dominant_subspace(
        sums,
        energy=config.energy,
        rank=config.rank,
        centring=config.centring == "on",
        standardise=config.standardise_columns == "on",
        normalised_rows=config.normalise_rows == "on",
    )
    return np.sort(np.concatenate(places)), subspace


def _instruction_subspace(
    parts: ScoreParts, config: ScoreConfig, crew: ScoreCrew | None, progress: Progress
) -> DominantSubspace | None:
    """Return the subspace of the instruction vectors; None where there are none, or they span nothing."""
    try:
        return _subspace(parts, "instruction_representations", config, crew)[1]
    except WorkError as error:  # all rows may ask the same
        progress.say(f"the instruction vectors have no dominant subspace: {error}")
        return None


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

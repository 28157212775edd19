"""What a selection chooses from: eligible rows, rows that must be in, copies barred, groups, images, vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalselect.dataset.field_values import field_values, has_field
from scalselect.errors import OptionError
from scalselect.row_content import codes_of, content_keys, image_keys, row_images
from scalselect.row_lists import read_quotas
from scalselect.selection.admission import RowImages
from scalselect.selection.candidates import Candidates, draws_of
from scalselect.selection.exact_copies import first_copies
from scalselect.selection.near_copies import find_near_copies
from scalselect.selection.ranking import order_by_score
from scalselect.selection.selecting import Strata
from scalselect.selection.strategies import strategy_named
from scalselect.selection.text_only import TextOnlyRows
from scalselect.subspace.blocks import centred
from scalselect.wished_rows import wished_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.config import SelectConfig
    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.records import DominantSubspace
    from scalselect.run_folder import RunFolder
    from scalselect.selection.quotas import Quotas


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRun:
    """What a selection begins with.

    Attributes
    ----------
    folder, shards
        The run folder, and the numbers of all its shards.
    pool
        The records; None for a run of vectors alone.
    table
        The run's scores, a table of `scalselect.run_folder.SCORES_SCHEMA`.
    """

    folder: RunFolder
    shards: range
    pool: Pool | JoinedPool | None
    table: pa.Table


@dataclass(slots=True, eq=False)
class CandidateRows:
    """Everything that a choice is made from, found from a scored run and the options of the choice.

    Attributes
    ----------
    eligible
        Pool positions of rows with a score that are not excluded, ascending, int64 [eligible].
    candidates
        Of these the rows that are no barred copies.
    included
        Which candidates must be chosen, bool [candidates].
    strata, quotas
        Groups of the candidates and what each is to give; None without groups.
    images
        The candidates' images, where the rows an image may have are limited.
    text_only
        Rows without images that could be chosen on top of the budget.
    excluded
        Pool positions of scored and text-only rows that are excluded, int64 [excluded].
    copies, copied
        Pool positions of barred copies, and of the rows they are copies of, int64 [barred].
    same_image_copies
        Rows that are near-copies of another question about the same images, and were not barred for it.
    stratum_of
        Name of every pool row's group, strings, null where a row has no score; None without groups.
    notes
        What the user should be told.
    """

    eligible: NDArray[np.int64]
    candidates: Candidates
    included: NDArray[np.bool_]
    strata: Strata | None
    quotas: Quotas
    images: RowImages | None
    text_only: TextOnlyRows
    excluded: NDArray[np.int64]
    copies: NDArray[np.int64]
    copied: NDArray[np.int64]
    same_image_copies: int = 0
    stratum_of: pa.Array | None = None
    notes: list[str] = field(default_factory=list)


def candidate_rows(run: ScoredRun, config: SelectConfig, progress: Progress) -> CandidateRows:
    """Find what a selection chooses from.

    Raises
    ------
    OptionError
        What is asked for cannot be found: a row that is none, a field no record has, vectors that were not stored.
    """
    table = run.table
    scored = pc.equal(table["status"], "scored").to_numpy(zero_copy_only=False)  # [pool]
    text_only = pc.equal(table["status"], "text_only").to_numpy(zero_copy_only=False)  # [pool]
    wished = wished_rows(config, table)
    wanted, unwanted, notes = wished.wanted, wished.unwanted, wished.notes
    eligible = np.flatnonzero(scored & ~unwanted).astype(np.int64)
    scores = table["leverage_score"].to_numpy()
    if config.deduplicate == "near":
        progress.say("looking for near-copies")
    copy_of, same_image = _copies(run, eligible, config, first=wanted[eligible])
    twice = wanted[eligible] & (copy_of >= 0)  # [eligible]
    if twice.any():
        notes.append(f"{twice.sum()} rows to be included are copies of others that are; they are chosen all the same")
        copy_of[twice] = -1
    kept = copy_of < 0  # [eligible]
    rows = eligible[kept]  # [candidates]
    stratum_of = None if config.stratify_by is None else _stratum_of(run, scored, config.stratify_by)
    if stratum_of is not None and pc.count_distinct(stratum_of).as_py() == 1:
        notes.append(f"all rows belong to one stratum, so stratify_by {config.stratify_by} has no effect")
    images = None if config.max_per_image is None else _images_of(run, rows)
    if images is not None:
        notes += _notes_of_images(images, wanted[rows], config.max_per_image or 0)
    return CandidateRows(
        eligible=eligible,
        candidates=_candidates(run, rows, scores[rows], config),
        included=wanted[rows],
        strata=None if stratum_of is None else _strata(stratum_of, rows, scores[rows]),
        quotas=read_quotas(config.quotas),
        images=images,
        text_only=_text_only(np.flatnonzero(text_only & ~unwanted).astype(np.int64), wanted),
        excluded=np.flatnonzero((scored | text_only) & unwanted).astype(np.int64),
        copies=eligible[~kept],
        copied=eligible[copy_of[~kept]],
        same_image_copies=same_image,
        stratum_of=stratum_of,
        notes=notes,
    )


def _text_only(rows: NDArray[np.int64], wanted: NDArray[np.bool_]) -> TextOnlyRows:
    return TextOnlyRows(rows, wanted[rows])


def _copies(
    run: ScoredRun, rows: NDArray[np.int64], config: SelectConfig, *, first: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Return for each eligible row the place of the row it is a barred copy of, else -1; and unbarred near-copies."""
    copy_of = np.full(rows.size, -1, dtype=np.int64)  # [eligible]
    if config.deduplicate == "none":
        return copy_of, 0
    # Rows that must be chosen come first, so that others are copies of them; a copy of the first is still barred.
    order = order_by_score(run.table["leverage_score"].to_numpy()[rows], rows)  # [eligible]
    order = np.concatenate([order[first[order]], order[~first[order]]])
    keys = content_keys(run.folder.store, run.shards)[rows]  # [eligible, 2]
    if config.deduplicate == "exact" and not keys.any():
        raise OptionError(
            "deduplicate `exact` compares hashes of images and texts, which vectors made elsewhere do not have, also "
            "with --dataset; try `near`"
        )
    copy_of, same_image = first_copies(keys, order), 0
    if config.deduplicate == "near":
        copy_of, same_image = _near(run, rows, order, copy_of, config)
    return copy_of, same_image


def _near(
    run: ScoredRun, rows: NDArray[np.int64], order: NDArray[np.int64], exact: NDArray[np.int64], config: SelectConfig
) -> tuple[NDArray[np.int64], int]:
    """Return the same as `_copies`, near-copies among those that are no exact copies included."""
    subspace = run.folder.read_subspace()
    stored = run.folder.read_coordinates()
    left = np.flatnonzero(exact < 0)  # [left], places that are no exact copies
    at = np.searchsorted(stored.rows, rows[left])  # [left]
    place = np.full(rows.size, -1, dtype=np.int64)
    place[left] = np.arange(left.size)
    images = None  # then other questions about the same images are copies like others
    if not config.near_across_questions:
        images = codes_of(image_keys(run.folder.store, run.shards)[rows[left]])  # [left]
    found = find_near_copies(
        stored.vision[at] * subspace.singular_values.astype(np.float32),  # [left, k]
        stored.norms[at].astype(np.float64),
        order=place[order][exact[order] < 0],
        bound=config.near_bound,
        vectors_at=lambda places: _centred_vectors(run, subspace, rows[left[places]]),
        images=images,
    )
    copy_of = exact.copy()
    near = found.copy_of >= 0  # [left]
    copy_of[left[near]] = left[found.copy_of[near]]
    # A copy of a row that is itself barred is a copy of the row that stands.
    again = (copy_of >= 0) & (copy_of[copy_of] >= 0)
    copy_of[again] = copy_of[copy_of[again]]
    return copy_of, found.same_images


def _centred_vectors(run: ScoredRun, subspace: DominantSubspace, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return centred(run.folder.store.vectors_at(run.shards, rows), subspace).astype(np.float32)


def _stratum_of(run: ScoredRun, scored: NDArray[np.bool_], name: str) -> pa.Array:
    if name == "source":
        sources = run.table["source"].combine_chunks()
        # With one data set its name groups nothing: a field of the records of that name is meant.
        if pc.count_distinct(sources).as_py() > 1 or run.pool is None or not has_field(run.pool, name):
            return pc.if_else(pa.array(scored), sources, None)
    if run.pool is None:
        raise OptionError(
            f"rows of vectors alone have no field `{name}` to group by; give their records with --dataset"
        )
    values = field_values(run.pool, np.flatnonzero(scored).tolist(), name)
    empty = pa.nulls(run.table.num_rows, pa.string())
    return pc.replace_with_mask(empty, pa.array(scored), pa.array(values, pa.string()))


def _strata(stratum_of: pa.Array, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> Strata:
    """Return the candidates' strata, those with the highest score first: so it is they who get what rounding leaves."""
    encoded = stratum_of.take(pa.array(rows)).dictionary_encode()
    found, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()  # [strata], [candidates]
    highest = np.zeros(len(found))  # [strata]
    np.maximum.at(highest, codes, scores)
    order = sorted(range(len(found)), key=lambda number: (-highest[number], found[number]))
    place = np.empty(len(found), dtype=np.int64)  # [strata]
    place[order] = np.arange(len(found))
    return Strata(place[codes], tuple(found[number] for number in order))


def _candidates(
    run: ScoredRun, rows: NDArray[np.int64], scores: NDArray[np.float64], config: SelectConfig
) -> Candidates:
    vision = instruction = None
    strategy = strategy_named(config.strategy)
    if strategy.needs:
        stored = run.folder.read_coordinates()
        at = np.searchsorted(stored.rows, rows)
        every = rows.size == stored.rows.size  # then the mapped arrays themselves will do
        vision = stored.vision if every else stored.vision[at]  # [candidates, k]
        if stored.instruction is not None:
            instruction = stored.instruction if every else stored.instruction[at]  # [candidates, k']
        elif "instruction" in strategy.needs:
            raise OptionError(
                f"strategy {config.strategy} needs vectors of the instructions, and this run has none that span a "
                "subspace: represent the pool with --vectors vision+instruction"
            )
    return Candidates(
        rows=rows,
        scores=scores,
        draws=draws_of(config.seed, run.table.num_rows)[rows],
        vision=vision,
        instruction=instruction,
        seed=config.seed,
    )


def _images_of(run: ScoredRun, rows: NDArray[np.int64]) -> RowImages:
    offsets, codes = row_images(run.folder.store, run.shards)
    if not codes.size:
        raise OptionError("max_per_image counts rows by the images they show, and no row of this run has any")
    counts = np.diff(offsets)  # [pool]
    here = np.zeros(counts.size, dtype=np.bool_)
    here[rows] = True
    return RowImages(np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int64), codes[np.repeat(here, counts)])


def _notes_of_images(images: RowImages, included: NDArray[np.bool_], most: int) -> list[str]:
    """Tell where rows that must be chosen show an image more often than rows may."""
    shown = images.codes[np.repeat(included, np.diff(images.offsets))]
    beyond = int(np.count_nonzero(np.unique(shown, return_counts=True)[1] > most))
    told = f"{beyond} images are shown by more than {most} rows to be included; they are chosen all the same"
    return [told] if beyond else []

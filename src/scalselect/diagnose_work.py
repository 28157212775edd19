"""Diagnostics over a run folder: what was chosen, beside an equally large random choice. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from scalselect.diagnostics.answer_words import answer_type, answer_word
from scalselect.diagnostics.balance import balance_measures
from scalselect.diagnostics.coverage import coverage_measures, whitening_scale
from scalselect.diagnostics.effective_rank import effective_rank
from scalselect.diagnostics.length_bins import length_bins
from scalselect.diagnostics.leverage_held import cut_measures, leverage_measures
from scalselect.diagnostics.nearest import nearest_rows
from scalselect.diagnostics.plain_numbers import plain
from scalselect.diagnostics.reconstruction import error_of_basis, reconstruction_errors
from scalselect.diagnostics.redundancy import copies, cosines, image_measures
from scalselect.diagnostics.seeded_choice import random_choice, rows_to_search, vectors_to_sample
from scalselect.diagnostics.spectrum import spectrum_measures
from scalselect.records import Sample, TextPart
from scalselect.row_facts import read_row_facts
from scalselect.subspace.blocks import centred

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.records import DominantSubspace
    from scalselect.row_facts import RowFacts
    from scalselect.run_folder import RunFolder

_POOL_ROWS_SEARCHED = 20_000
_ANSWERS_READ = 20_000
_POINTS_AT_ONCE = 65_536
_VALUES_COMPARED = 2**23  # numbers in a sample of vectors, 64 MiB in float64: 4,096 rows up to a hidden size of 2,048
_VALUES_DECOMPOSED = 2**22  # 4,096 rows up to a hidden size of 1,024; no matrix above 2,048 x 2,048 is decomposed
_SETS = ("chosen", "random")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Material:
    """What a choice is judged from.

    Attributes
    ----------
    folder, shards
        The run folder and the numbers of its shards.
    pool
        Where answers are read; None where there are no records.
    table
        `scores.parquet`, one line for every pool row.
    chosen, eligible
        Row positions, ascending, int64. Chosen rows without a vector are counted and left out of the measures.
    subspace
        The dominant subspace of the scores.
    coordinates
        Whitened coordinates u of all scored rows in pool order, float32 [scored, k]; may lie in a file.
    seed
        Decides the random choice and every sample.
    near_bound
        Cosine of centred representations from which two rows are near-copies.
    """

    folder: RunFolder
    shards: range
    pool: Pool | JoinedPool | None
    table: pa.Table
    chosen: NDArray[np.int64]
    eligible: NDArray[np.int64]
    subspace: DominantSubspace
    coordinates: NDArray[np.float32]
    seed: int
    near_bound: float


def diagnose(material: Material) -> dict[str, Any]:
    """Measure a choice, and beside it an equally large random one; the content of `diagnostics.json`.

    Deterministic, in the types of JSON (null for what cannot be measured). Time is bounded but for one read of the
    rows' facts and O(N) sums: samples, whose sizes are told, stand for large sets.

    Raises
    ------
    ValueError
        If there are not as many coordinates as scored rows.
    """
    # The number of threads decides the last digits of products, so it is the recorded one.
    with threadpool_limits(limits=material.folder.require()["represent"]["threads"]):
        content: dict[str, Any] = plain(_Diagnosis(material).content())
    return content


class _Diagnosis:
    """The sets that are measured: all scored rows, the chosen ones among them, and a random choice."""

    def __init__(self, material: Material) -> None:
        self._material = material
        scored = pc.equal(material.table["status"], "scored").to_numpy(zero_copy_only=False)
        self._scored: NDArray[np.int64] = np.flatnonzero(scored).astype(np.int64)  # [scored]
        if material.coordinates.shape != (self._scored.size, material.subspace.rank):
            raise ValueError(
                f"coordinates must be [{self._scored.size}, {material.subspace.rank}], one line for every scored row: "
                f"{list(material.coordinates.shape)}"
            )
        chosen = material.chosen[scored[material.chosen]]
        self._sets = {
            "chosen": chosen,
            "random": random_choice(material.eligible, chosen.size, material.seed, "random choice"),
        }

    def content(self) -> dict[str, Any]:
        material, chosen = self._material, self._sets["chosen"]
        scores = material.table["leverage_score"].to_numpy()[self._scored]  # [scored]
        candidates = np.union1d(material.eligible, chosen)
        at_cut = scores[self._places(candidates)]
        asked = material.folder.require().get("score") or {}
        facts = read_row_facts(
            material.folder.store,
            material.shards,
            material.table.num_rows,
            np.union1d(chosen, self._sets["random"]),
        )
        return {
            "rows": {
                "scored": self._scored.size,
                "eligible": material.eligible.size,
                "chosen": material.chosen.size,
                "chosen_without_vector": material.chosen.size - chosen.size,
                "random": self._sets["random"].size,
            },
            "seed": material.seed,
            "spectrum": spectrum_measures(material.subspace, None if asked.get("rank") else asked.get("energy")),
            "leverage": leverage_measures(scores, np.isin(self._scored, chosen, assume_unique=True)),
            "cut": cut_measures(at_cut, np.isin(candidates, chosen, assume_unique=True)),
            "coverage": self._coverage(),
            "redundancy": self._redundancy(facts),
            "effective_rank": self._effective_rank(),
            "reconstruction_error": self._reconstruction(),
            "balance": self._balance(facts),
        }

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of rows among the scored ones, which are those of their coordinates."""
        places: NDArray[np.int64] = np.searchsorted(self._scored, rows)
        return places

    def _points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return whitened coordinates scaled to a mean squared norm of one, float64 [rows, k]."""
        scale = whitening_scale(self._scored.size, self._material.subspace.rank)
        return self._material.coordinates[self._places(rows)].astype(np.float64) * scale

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
        """Yield `_points` of many rows, block after block."""
        for start in range(0, rows.size, _POINTS_AT_ONCE):
            yield self._points(rows[start : start + _POINTS_AT_ONCE])

    def _sample(self, rows: NDArray[np.int64], size: int, purpose: str) -> NDArray[np.int64]:
        return random_choice(rows, size, self._material.seed, purpose)

    def _centred(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return centred representations, float64 [rows, hidden]."""
        subspace = self._material.subspace
        if not rows.size:
            return np.empty((0, subspace.mean.size))
        return centred(self._material.folder.store.vectors_at(self._material.shards, rows), subspace)

    def _coverage(self) -> dict[str, Any]:
        size = rows_to_search(_POOL_ROWS_SEARCHED, self._sets["chosen"].size, self._material.subspace.rank)
        pool = self._points(self._sample(self._scored, size, "coverage"))
        return {
            "sampled": pool.shape[0],
            **{name: coverage_measures(pool, self._blocks(self._sets[name])) for name in _SETS},
        }

    def _redundancy(self, facts: RowFacts) -> dict[str, Any]:
        found: dict[str, Any] = {"near_bound": self._material.near_bound, "sampled": 0}
        for name in _SETS:
            rows = self._sets[name]
            looked_at, share = self._near_copies(rows, f"near copies, {name}")
            found["sampled"] = max(found["sampled"], looked_at)
            found[name] = {"near_copies": share, **self._shared_content(facts, rows)}
        return found

    def _shared_content(self, facts: RowFacts, rows: NDArray[np.int64]) -> dict[str, Any]:
        shared = {"exact_copies": copies(facts.content_codes(rows)), **image_measures(*facts.image_pairs(rows))}
        return shared if facts.recorded else dict.fromkeys(shared)

    def _near_copies(self, rows: NDArray[np.int64], purpose: str) -> tuple[int, float | None]:
        """Return how many rows were looked at, and the share of them whose nearest other row is a near-copy."""
        subspace = self._material.subspace
        size = rows_to_search(vectors_to_sample(subspace.mean.size, _VALUES_COMPARED), rows.size, subspace.rank)
        sample = self._sample(rows, size, purpose)
        if rows.size < 2:  # noqa: PLR2004  there is no other row
            return sample.size, 0.0 if rows.size else None
        nearest, _ = nearest_rows(self._points(sample), self._blocks(rows), np.searchsorted(rows, sample))
        near = rows[nearest]  # [sampled]
        different, back = np.unique(near, return_inverse=True)
        found = cosines(self._centred(sample), self._centred(different)[back])
        return sample.size, float(np.mean(found >= self._material.near_bound))

    def _effective_rank(self) -> dict[str, Any]:
        coordinates, values = self._material.coordinates, self._material.subspace.singular_values
        return {
            "pool": effective_rank(coordinates, values),
            **{name: effective_rank(coordinates, values, self._places(self._sets[name])) for name in _SETS},
        }

    def _reconstruction(self) -> dict[str, Any]:
        subspace = self._material.subspace
        size = vectors_to_sample(subspace.mean.size, _VALUES_DECOMPOSED)
        pool = self._centred(self._sample(self._scored, size, "reconstructed"))
        facts: dict[str, Any] = {
            "smallest_possible": max(0.0, 1.0 - subspace.energy),
            "dominant_subspace": error_of_basis(pool, subspace.basis),
            "sampled": {"pool": pool.shape[0]},
        }
        for name in _SETS:
            rows = self._centred(self._sample(self._sets[name], size, f"reconstructing, {name}"))
            facts["sampled"][name] = rows.shape[0]
            facts[name] = reconstruction_errors(pool, rows, subspace.rank)
        return facts

    def _balance(self, facts: RowFacts) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(("source", "stratum", "turns", "images", "length"))
        for name in ("source", "stratum"):
            column = self._material.table[name]
            if column.null_count < len(column):
                encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
                codes = encoded.indices.to_numpy(zero_copy_only=False)  # [pool]
                found[name] = self._balance_of(encoded.dictionary.to_pylist(), codes)
        if facts.recorded:
            for name, numbers in (("turns", facts.turns), ("images", facts.images)):
                values, codes = np.unique(numbers, return_inverse=True)
                found[name] = self._balance_of(values.tolist(), codes)
            if (facts.text_tokens >= 0).any():
                found["length"] = self._balance_of(*length_bins(facts.text_tokens))
        return {**found, **self._balance_of_answers()}

    def _balance_of(self, names: Sequence[Any], codes: NDArray[Any]) -> dict[str, Any]:
        """Compare a property of every pool row, given as places in `names`, [pool]."""
        counts = (
            np.bincount(codes[rows], minlength=len(names)).astype(np.int64)
            for rows in (self._scored, *self._sets.values())
        )
        return balance_measures(names, *counts)

    def _balance_of_answers(self) -> dict[str, dict[str, Any] | None]:
        """Compare the first answers of rows: their words, and of what kind they are."""
        if self._material.pool is None:
            return {"answer": None, "answer_type": None}
        sets = {"pool": self._scored, **self._sets}
        samples = {name: self._sample(rows, _ANSWERS_READ, f"answers, {name}") for name, rows in sets.items()}
        wanted = np.unique(np.concatenate(list(samples.values())))
        read = zip(wanted.tolist(), map(_first_answer, self._material.pool.samples_at(wanted)), strict=True)
        seen = {row: (answer_word(text), answer_type(text)) for row, text in read}
        return {name: _balance_of_sampled(samples, seen, place) for place, name in enumerate(("answer", "answer_type"))}


def _balance_of_sampled(
    samples: Mapping[str, NDArray[np.int64]], seen: Mapping[int, tuple[str, ...]], place: int
) -> dict[str, Any]:
    """Compare one of the things seen of sampled rows of the pool and of each set."""
    counted = {name: Counter(seen[row][place] for row in rows.tolist()) for name, rows in samples.items()}
    names = sorted(set().union(*counted.values()))
    counts = (np.array([counter[word] for word in names], dtype=np.int64) for counter in counted.values())
    return {"sampled": {name: rows.size for name, rows in samples.items()}, **balance_measures(names, *counts)}


def _first_answer(sample: object) -> str:
    """Return the text of the first assistant turn; empty where there is none."""
    turns = sample.turns if isinstance(sample, Sample) else ()
    answers = (turn for turn in turns if turn.role == "assistant")
    first = next(answers, None)
    return "" if first is None else " ".join(part.text for part in first.parts if isinstance(part, TextPart))

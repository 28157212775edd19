"""Two runs over the same rows, side by side: what another model, layer or option changes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalselect.diagnostics.agreement import principal_angles, rank_correlation, set_overlap, top_overlaps
from scalselect.diagnostics.plain_numbers import plain
from scalselect.errors import RunFolderError
from scalselect.row_content import content_keys
from scalselect.run_folder import RunFolder
from scalselect.segments import rows_of, segments_of, shards_of
from scalselect.subspace_file import facts_of_subspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.diagnostics.agreement import SetOverlap, TopOverlap
    from scalselect.records import DominantSubspace

_GROUPS = ("represent", "score", "select")
_OF_THE_DATA = ("rows", "images", "data_sha256", "data_bytes", "data_records", "data_format")
_OF_THE_MODEL = ("model_config", "model_weights")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """How two runs over the same rows agree; A is the first, B the second.

    Attributes
    ----------
    run_a, run_b
        The run folders.
    rows
        Rows of the pool.
    scored_in_both, scored_only_in_a, scored_only_in_b
        Row positions, ascending, int64.
    rank_correlation
        Spearman's rank correlation of the scores of rows scored in both; None where there is no order to compare.
    top
        What the highest scores share, at several percentages of the rows scored in both.
    overlap
        What the chosen sets share; None for `overlap_reason`.
    angles
        Principal angles between the dominant subspaces, smallest first, in degrees, float64 [smaller k]; None for
        `angles_reason`.
    subspace_a, subspace_b
        `k`, `energy`, `gap` and the other numbers of each subspace.
    options
        Options that differ: group of run.json to option to the two values, A's first.
    notes
        What to know before reading the numbers.
    """

    run_a: Path
    run_b: Path
    rows: int
    scored_in_both: NDArray[np.int64]
    scored_only_in_a: NDArray[np.int64]
    scored_only_in_b: NDArray[np.int64]
    rank_correlation: float | None
    top: tuple[TopOverlap, ...]
    overlap: SetOverlap | None
    overlap_reason: str | None
    angles: NDArray[np.float64] | None
    angles_reason: str | None
    subspace_a: dict[str, Any]
    subspace_b: dict[str, Any]
    options: dict[str, dict[str, tuple[Any, Any]]]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What is read of one run folder."""

    path: Path
    content: dict[str, Any]
    table: pa.Table
    subspace: DominantSubspace

    @property
    def scored(self) -> NDArray[np.int64]:
        return _rows_where(pc.equal(self.table["status"], "scored"))

    @property
    def eligible(self) -> NDArray[np.int64]:
        """Rows that could be chosen: scored and not barred before anything was."""
        reasons = pc.fill_null(self.table["reason"], "")
        barred = pc.or_(pc.equal(reasons, "excluded"), pc.starts_with(reasons, "duplicate_of"))
        return _rows_where(pc.and_not(pc.equal(self.table["status"], "scored"), barred))

    @property
    def chosen(self) -> NDArray[np.int64] | None:
        """Chosen rows among those with a score, text-only rows apart; None before any selection."""
        selected = self.table["selected"]
        if selected.null_count == len(selected):
            return None
        return _rows_where(pc.and_(pc.fill_null(selected, fill_value=False), pc.equal(self.table["status"], "scored")))


def compare(run_a: str | Path, run_b: str | Path) -> Comparison:
    """Compare two scored runs over the same rows: chosen sets, scores, subspaces and options. Writes nothing.

    Parameters
    ----------
    run_a, run_b
        The run folders. Their data files must be the same, or hold the same rows; of vectors made elsewhere only the
        number of rows is known.

    Raises
    ------
    RunFolderError
        If one of them is no run folder or has no scores, or they are runs of different data.
    DamagedFileError
        If a file that is read is not what was published.
    """
    contents = [RunFolder(path).require() for path in (run_a, run_b)]
    a, b = (_read(RunFolder(path), content) for path, content in zip((run_a, run_b), contents, strict=True))
    notes = _refuse_other_data(a, b)
    in_both = np.intersect1d(a.scored, b.scored, assume_unique=True)
    scores_a, scores_b = (run.table["leverage_score"].to_numpy()[in_both] for run in (a, b))
    correlation = plain(rank_correlation(scores_a, scores_b))
    overlap, overlap_reason = _overlap(a, b)
    angles, angles_reason = _angles(a.subspace, b.subspace)
    options = _different_options(a.content, b.content)
    if angles is not None and any(name in options.get("represent", {}) for name in _OF_THE_MODEL):
        notes.append("the models differ, and a dimension of one need not mean that of the other: angles say little")
    return Comparison(
        run_a=a.path,
        run_b=b.path,
        rows=a.table.num_rows,
        scored_in_both=in_both,
        scored_only_in_a=np.setdiff1d(a.scored, in_both, assume_unique=True),
        scored_only_in_b=np.setdiff1d(b.scored, in_both, assume_unique=True),
        rank_correlation=correlation,
        top=top_overlaps(scores_a, scores_b),
        overlap=overlap,
        overlap_reason=overlap_reason,
        angles=angles,
        angles_reason=angles_reason,
        subspace_a=facts_of_subspace(a.subspace),
        subspace_b=facts_of_subspace(b.subspace),
        options=options,
        notes=tuple(notes),
    )


def _read(folder: RunFolder, content: dict[str, Any]) -> _Run:
    return _Run(folder.path, content, folder.read_scores(), folder.read_subspace())


def _refuse_other_data(a: _Run, b: _Run) -> list[str]:
    """Return what to know of the data where their files do not tell; raise RunFolderError where they differ."""
    facts = [
        {
            "rows": rows_of(run.content),
            "data_sha256": ", ".join(str(segment.data_sha256) for segment in segments_of(run.content)),
        }
        for run in (a, b)
    ]
    if facts[0] == facts[1]:
        return []
    if facts[0]["rows"] == facts[1]["rows"]:
        if any("representations" in run.content["represent"] for run in (a, b)):
            return ["vectors made elsewhere have no records: row by row they are taken to be the same samples"]
        if _same_content(a, b):
            return ["the data files differ, but every row scored in both has the same images and conversation"]
    told = "\n".join(
        f"  {name}: {facts[0][name]} in {a.path}, {facts[1][name]} in {b.path}"
        for name in facts[0]
        if facts[0][name] != facts[1][name]
    )
    raise RunFolderError(
        "the two runs are not of the same data, so their rows are not the same samples:\n"
        f"{told}\ncompare runs of the same rows in the same order, with the same --limit"
    )


def _same_content(a: _Run, b: _Run) -> bool:
    """Tell whether every row scored in both holds the same in both; a pool that grew has other files."""
    in_both = np.intersect1d(a.scored, b.scored, assume_unique=True)
    keys = [content_keys(RunFolder(run.path).store, shards_of(run.content))[in_both] for run in (a, b)]  # [both, 2]
    return bool(in_both.size and keys[0].any() and np.array_equal(keys[0], keys[1]))


def _overlap(a: _Run, b: _Run) -> tuple[SetOverlap | None, str | None]:
    chosen_a, chosen_b = a.chosen, b.chosen
    if chosen_a is None or chosen_b is None:
        missing = [name for name, chosen in (("A", chosen_a), ("B", chosen_b)) if chosen is None]
        return None, f"nothing was selected in {' and '.join(missing)}"
    overlap = set_overlap(chosen_a, chosen_b, a.eligible, b.eligible)
    return overlap, None if overlap else "a chosen set is empty"


def _angles(a: DominantSubspace, b: DominantSubspace) -> tuple[NDArray[np.float64] | None, str | None]:
    if a.mean.size != b.mean.size:
        return None, f"vectors of {a.mean.size:,} and {b.mean.size:,} dimensions have no angle"
    if (a.scale is None) != (b.scale is None):
        return None, "columns are standardised in one run alone, so directions are of different units"
    return principal_angles(a.basis, b.basis), None


def _different_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return what differs in the groups that both runs have, without groups that agree."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for group in _GROUPS:
        first, second = a.get(group), b.get(group)
        if not first or not second:
            continue
        # Which data they are was compared already, and of a run that grew these tell of its first data set alone.
        names = sorted(name for name in {*first, *second} if name not in _OF_THE_DATA)
        different = {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}
        if different:
            found[group] = different
    return found


def _rows_where(condition: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.flatnonzero(condition.to_numpy(zero_copy_only=False)).astype(np.int64)

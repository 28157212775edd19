"""What an unscored run is, in words: what became of its rows, and the next step where there is one that can work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.report_page.number_words import counted, listed, were

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.report_page.material import Material
    from scalselect.report_page.row_fates import Fate

_FEWEST = 2  # representations that span anything


def unscored_words(material: Material, fates: Sequence[Fate]) -> str:
    """Return what a person should know of a run in which no row has a score."""
    rows = {kind: sum(fate.rows for fate in fates if fate.kind == kind) for kind in ("others", "skipped", "text-only")}
    told = [f"{rows[kind]:,} {were(rows[kind])} {word}" for kind, word in _WORDS.items() if rows[kind]]
    pool = counted(material.table.num_rows, "row")
    return f"Nothing was scored yet: of {pool}, {listed(told)}{_next(material, rows['others'])}"


_WORDS = {"others": "represented", "skipped": "skipped", "text-only": "text-only"}


def _next(material: Material, represented: int) -> str:
    if not represented:
        return ", so there is nothing to score."
    if represented < _FEWEST:
        return ". A score compares a row with others, so nothing can be scored: at least 2 represented rows are needed."
    if _all_alike(material):
        return ". All of their vectors are equal, so no row stands out and nothing can be scored."
    return "; `scalselect score` is the next step."


def _all_alike(material: Material) -> bool:
    """Tell whether all representations are equal; reads no further than to the first shard that has two unlike ones."""
    first = None
    for _, vectors in material.folder.store.blocks(material.shards):
        first = vectors[0] if first is None else first
        if (vectors != first).any():
            return False
    return True

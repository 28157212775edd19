"""Which rows a page shows as samples: the highest scores, those at the cut, the lowest, and skipped ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from scalselect.config import MOST_EXPLAINED
from scalselect.report_page.row_fates import has_scores

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

GROUPS = ("highest", "just_in", "just_out", "lowest", "skipped")
MOST_OF_A_GROUP = 100


def shown_rows(table: pa.Table, most: int = MOST_OF_A_GROUP) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each group, at most so many, int64 each.

    Parameters
    ----------
    table
        `scores.parquet`, one line for every pool row.

    Returns
    -------
    dict
        `highest` scores, falling; `just_in`, the chosen rows of lowest score, rising; `just_out`, the highest scores
        that were not chosen though nothing barred them, falling; `lowest` scores, rising; `skipped` in pool order, all
        reasons in turn, so that a frequent one hides no other. A row stands only in the first group that it belongs to;
        where few were chosen, or few were not, the cut keeps half of them. Without a selection there is no `just_in`
        and no `just_out`; without scores `highest` has the first rows of the pool, and there is no `lowest`. Where rows
        were passed over (see `passed_over`) there is no cut to be at: `lowest` comes before the two groups beside it,
        and has at most a quarter of the scored rows.
    """
    order, selected, barred = _ranked(table)
    decided = table["selected"].null_count < table.num_rows
    scored = has_scores(table)
    wanted = {
        "highest": order,
        "just_in": order[selected][::-1],
        "just_out": order[~selected & ~barred] if decided else order[:0],
        "lowest": order[::-1] if scored else order[:0],
        "skipped": _skipped(table),
    }
    # Else a small choice would be among the highest scores as a whole, and nothing be left to show at its lower end.
    at_most = {
        "highest": -(-wanted["just_in"].size // 2) or most,
        "just_out": -(-wanted["just_out"].size // 2),
    }
    first: tuple[str, ...] = GROUPS
    if passed_over(table):
        first, at_most["lowest"] = ("highest", "lowest", "just_in", "just_out", "skipped"), -(-order.size // 4)
    taken: set[int] = set()
    found = {}
    for group in first:
        number = min(most, at_most.get(group, most))
        some = [row for row in wanted[group][: most * len(GROUPS)].tolist() if row not in taken][:number]
        taken.update(some)
        found[group] = np.array(some, dtype=np.int64)
    return {group: found[group] for group in GROUPS}


def passed_over(table: pa.Table) -> int:
    """Return how many rows were not chosen, though nothing barred them and a row of lower score was chosen.

    0 where the choice was made by score alone, and where nothing was chosen.
    """
    order, selected, barred = _ranked(table)
    if not selected.any():
        return 0
    scores = table["leverage_score"].to_numpy(zero_copy_only=False)[order]  # [scored], falling
    return int(np.count_nonzero(~selected & ~barred & (scores > scores[selected][-1])))


def explained_rows(table: pa.Table, most: int = MOST_EXPLAINED) -> NDArray[np.int64]:
    """Return the scored rows among the shown ones whose attention is worth looking at, ascending, int64 [at most]."""
    groups = shown_rows(table)
    scored = [groups[name] for name in GROUPS if name != "skipped"]
    # Each group in turn, so that none is left without.
    turns = [group[place] for place in range(MOST_OF_A_GROUP) for group in scored if place < len(group)]
    return np.sort(np.array(turns[:most], dtype=np.int64))


def _ranked(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the scored rows by falling score, and which of them were chosen and which barred, each [scored]."""
    rows = np.flatnonzero(pc.equal(table["status"], "scored").to_numpy(zero_copy_only=False))
    order = rows[np.argsort(table["rank"].to_numpy(zero_copy_only=False)[rows], kind="stable")].astype(np.int64)
    selected = pc.fill_null(table["selected"], fill_value=False).to_numpy(zero_copy_only=False)[order]
    barred = pc.is_valid(table["reason"]).to_numpy(zero_copy_only=False)[order]
    return order, selected, barred


def _skipped(table: pa.Table) -> NDArray[np.int64]:
    rows = np.flatnonzero(pc.equal(table["status"], "skipped").to_numpy(zero_copy_only=False))
    reasons = table["reason"].combine_chunks().take(rows).to_pylist()
    seen: dict[str | None, int] = {}
    turns = []
    for reason in reasons:
        turns.append(seen.setdefault(reason, 0))
        seen[reason] += 1
    return rows[np.argsort(turns, kind="stable")].astype(np.int64)

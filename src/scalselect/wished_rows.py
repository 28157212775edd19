"""Which rows of a pool a user named to be chosen, or not to be: by position and by id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scalselect.errors import OptionError
from scalselect.row_lists import listed, listed_rows
from scalselect.selection.wishes import rows_with_ids

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from scalselect.config import SelectConfig

_TOLD = 5


@dataclass(frozen=True, slots=True, eq=False)
class WishedRows:
    """What a user wishes of single rows.

    Attributes
    ----------
    wanted, unwanted
        Which pool rows must be chosen, and must not be, bool [pool].
    notes
        What the user should be told: ids of no row or of several, rows that cannot be chosen.
    """

    wanted: NDArray[np.bool_]
    unwanted: NDArray[np.bool_]
    notes: list[str]


def wished_rows(config: SelectConfig, table: pa.Table) -> WishedRows:
    """Return the rows that a choice's lists name, among those of a table of `scalselect.run_folder.SCORES_SCHEMA`.

    Raises
    ------
    OptionError
        A list cannot be read or names a row that is none, or a row is named to be chosen and not to be.
    """
    notes: list[str] = []
    wanted = _named("include", config.include_rows, config.include_ids, table, notes)
    unwanted = _named("exclude", config.exclude_rows, config.exclude_ids, table, notes)
    both = np.flatnonzero(wanted & unwanted)
    if both.size:
        raise OptionError(f"row {both[0]} is to be included and to be excluded ({both.size} rows are)")
    skipped = pc.equal(table["status"], "skipped").to_numpy(zero_copy_only=False)  # [pool]
    without_score = np.flatnonzero(wanted & skipped)
    if without_score.size:
        told = ", ".join(str(row) for row in without_score[:_TOLD]) + (", ..." if without_score.size > _TOLD else "")
        notes.append(f"{without_score.size} rows to be included have no score and cannot be chosen: {told}")
    return WishedRows(wanted, unwanted, notes)


def _named(word: str, rows: Any, ids: Any, table: pa.Table, notes: list[str]) -> NDArray[np.bool_]:
    """Return which pool rows a user names by position or id, bool [pool]; tell ids that are absent or repeated."""
    named = np.zeros(table.num_rows, dtype=np.bool_)
    named[listed_rows(f"{word}_rows", rows, table.num_rows)] = True
    names = listed(f"{word}_ids", ids)
    if names:
        found = rows_with_ids(table["id"].to_pylist(), names)
        named[found.rows] = True
        for told, what in (
            (found.absent, "is the id of no row"),
            (tuple(found.repeated), "is the id of several rows, all meant"),
        ):
            if told:
                more = f" (and {len(told) - 1} more such)" if len(told) > 1 else ""
                notes.append(f"{word}_ids: {told[0]!r} {what}{more}")
    return named

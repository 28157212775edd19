"""What the rows chosen for each budget hold of all leverage: of several budgets of every one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from scalselect.report_page.run_words import asked_words
from scalselect.row_tables import table_from_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from scalselect.report_page.material import Material


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetShare:
    """A budget and its choice.

    Attributes
    ----------
    asked
        In words, as it was asked for.
    rows
        Rows with a score that it came to.
    held
        Share of all leverage that the chosen rows hold; None where the rows of a further budget are not those that
        were written with the choice.
    """

    asked: str
    rows: int
    held: float | None


def budget_shares(material: Material) -> list[BudgetShare]:
    """Return the budgets in the order asked; none without a choice. The first is the one that the page is about."""
    selection, table = material.selection, material.table
    if selection is None:
        return []
    total = _sum(table)
    shares = []
    for place, budget in enumerate(selection["budgets"]):
        chosen = _chosen_for(material, budget["asked"]) if place else table.filter(table["selected"])
        held = None if chosen is None else min(_sum(chosen) / total, 1.0)
        shares.append(BudgetShare(asked=asked_words(budget["asked"]), rows=budget["rows"], held=held))
    return shares


def _chosen_for(material: Material, asked: str) -> pa.Table | None:
    path = material.folder.selections / asked / "rows.parquet"
    name = str(path.relative_to(material.folder.path))
    try:
        if material.folder.changed_since_selected(material.selection or {}, [name]):
            return None
        return table_from_bytes(path.read_bytes(), ["leverage_score"])
    except FileNotFoundError:
        return None


def _sum(table: pa.Table) -> float:
    return float(pc.sum(table["leverage_score"]).as_py() or 0.0)

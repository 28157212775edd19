"""Where every row of the pool went: chosen, not chosen, barred, skipped and why, text-only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from scalselect.report_page.reason_words import reason_words

if TYPE_CHECKING:
    import pyarrow as pa

_COPY = "duplicate_of"
NOT_SCORED = "represented, not scored yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One of the things that became of rows.

    Attributes
    ----------
    kind
        `chosen`, `others`, `barred`, `skipped` or `text-only`: its colour.
    words
        What became of them.
    reason
        The word that `scores.parquet` has for it; None where it has none.
    rows
        How many.
    """

    kind: str
    words: str
    reason: str | None
    rows: int


def row_fates(table: pa.Table) -> list[Fate]:
    """Return what became of the rows of `scores.parquet`, each row counted once; without what became of none.

    Before any selection scored rows are told as such: none of them was refused. Before any scoring no row is told to
    have a score.
    """
    counted = _counted(table)
    decided = table["selected"].null_count < table.num_rows
    scored = has_scores(table)
    found = []
    for status, words in (("scored", "chosen"), ("text_only", "text-only, chosen on top of the budget")):
        chosen = sum(rows for (of, selected, _), rows in counted.items() if of == status and selected)
        found.append(Fate(kind="chosen", words=words, reason=None, rows=chosen))
    left = "scored, not chosen" if decided else "scored, nothing chosen yet" if scored else NOT_SCORED
    found.append(Fate(kind="others", words=left, reason=None, rows=counted["scored", False, None]))
    barred = {reason: rows for (status, chosen, reason), rows in counted.items() if status == "scored" and not chosen}
    for reason in sorted(barred.keys() - {None}, key=str):
        words = "a copy of another row" if reason == _COPY else reason_words(str(reason))
        found.append(Fate(kind="barred", words=f"barred: {words}", reason=reason, rows=barred[reason]))
    skipped = {reason: rows for (status, _, reason), rows in counted.items() if status == "skipped"}
    found += [
        Fate(kind="skipped", words=f"skipped: {reason_words(str(why))}", reason=why, rows=skipped[why])
        for why in sorted(skipped, key=lambda why: (-skipped[why], str(why)))
    ]
    text_only = sum(rows for (status, chosen, _), rows in counted.items() if status == "text_only" and not chosen)
    found.append(Fate(kind="text-only", words="text-only, without a score", reason=None, rows=text_only))
    return [fate for fate in found if fate.rows]


def has_scores(table: pa.Table) -> bool:
    """Tell whether rows have scores: the status `scored` says only that they have a representation."""
    return bool(table["leverage_score"].null_count < table.num_rows)


def _counted(table: pa.Table) -> Counter[tuple[str, bool, str | None]]:
    """Count rows by status, whether chosen, and reason; the row that a copy is a copy of left out."""
    plain = table.select(["status", "selected", "reason"])
    plain = plain.set_column(1, "selected", pc.fill_null(plain["selected"], fill_value=False))
    shortened = pc.replace_substring_regex(plain["reason"], r"^duplicate_of:.*$", "duplicate_of")
    groups = (
        plain.set_column(2, "reason", shortened)
        .group_by(["status", "selected", "reason"])
        .aggregate([([], "count_all")])
    )
    found: Counter[tuple[str, bool, str | None]] = Counter()
    for group in groups.to_pylist():
        found[group["status"], group["selected"], group["reason"]] += group["count_all"]
    return found

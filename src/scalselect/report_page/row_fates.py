"""Where every row of the pool went: chosen, not chosen, barred, skipped and why, text-only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from scalselect.records import Reason

if TYPE_CHECKING:
    import pyarrow as pa

SKIPPED_WORDS = {
    Reason.INVALID_RECORD: "record cannot be read",
    Reason.NO_USABLE_TURN: "no conversation, or none with text",
    Reason.UNKNOWN_ROLE: "a turn of an unknown role",
    Reason.UNSUPPORTED_CONTENT: "video, audio or other content that is not supported",
    Reason.MARKER_MISMATCH: "image markers and images differ in number",
    Reason.IMAGE_MISSING: "image file is missing",
    Reason.IMAGE_UNREADABLE: "image cannot be read",
    Reason.IMAGE_TOO_LARGE: "image too large, or too long and thin",
    Reason.IMAGE_OUTSIDE: "image lies outside of the image folder",
    Reason.IMAGE_REFUSED: "image refused by the model's processor",
    Reason.TEMPLATE_REFUSED: "conversation refused by the chat template",
    Reason.PREPARATION_FAILED: "preparing it failed",
    Reason.PREPARATION_CRASHED: "preparing it ended the process",
    Reason.PREPARATION_TIMED_OUT: "preparing it took too long",
    Reason.OUT_OF_MEMORY: "does not fit into the memory",
    Reason.SPANS_LOST: "the chat template rewrites its texts",
    Reason.TOO_LONG: "longer than the length limit",
    Reason.NOT_FINITE: "the model returned NaN or infinity",
}
BARRED_WORDS = {
    "excluded": "excluded by a list",
    "duplicate_of": "copy of another row",
    "max_per_image": "its image has its share already",
}


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

    Before any selection scored rows are told as such: none of them was refused.
    """
    counted = _counted(table)
    decided = table["selected"].null_count < table.num_rows
    found = []
    for status, words in (("scored", "chosen"), ("text_only", "text-only, chosen on top of the budget")):
        chosen = sum(rows for (of, selected, _), rows in counted.items() if of == status and selected)
        found.append(Fate(kind="chosen", words=words, reason=None, rows=chosen))
    left = "scored, not chosen" if decided else "scored, nothing chosen yet"
    found.append(Fate(kind="others", words=left, reason=None, rows=counted["scored", False, None]))
    barred = {reason: rows for (status, chosen, reason), rows in counted.items() if status == "scored" and not chosen}
    for reason in sorted(barred.keys() - {None}, key=str):
        words = BARRED_WORDS.get(str(reason), str(reason))
        found.append(Fate(kind="barred", words=f"barred: {words}", reason=reason, rows=barred[reason]))
    skipped = {reason: rows for (status, _, reason), rows in counted.items() if status == "skipped"}
    for why in sorted(skipped, key=lambda why: (-skipped[why], str(why))):
        words = SKIPPED_WORDS[Reason(why)] if why in set(Reason) else str(why)
        found.append(Fate(kind="skipped", words=f"skipped: {words}", reason=why, rows=skipped[why]))
    text_only = sum(rows for (status, chosen, _), rows in counted.items() if status == "text_only" and not chosen)
    found.append(Fate(kind="text-only", words="text-only, without a score", reason=None, rows=text_only))
    return [fate for fate in found if fate.rows]


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

"""What the trainers make of the order of a record's turns: rows that they drop, cut, or train to no purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scalselect.dataset.record_fields import record_fields
from scalselect.dataset.record_view import view_record
from scalselect.dataset.trainer_rules import faults_for
from scalselect.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalselect.dataset.pool import Pool

_TRAINERS = ("llamafactory", "ms-swift", "llava")  # TRL keeps any order
_OF_ORDER = {
    "empty_conversation": "without turns",
    "starts_with_assistant": "that start with an answer",
    "ends_with_user": "that end with a question",
    "roles_not_alternating": "whose turns do not alternate",
}


def order_faults(pool: Pool, row: int) -> Iterator[tuple[str, str]]:
    """Yield trainer and kind of fault of a row; words for roles that `how_to_train.md` tells a trainer are known.

    Raises
    ------
    DataChangedError
        The data were changed or removed.
    """
    try:
        view = view_record(record_fields(pool.raw(row)), pool.record_format)
    except SampleError:
        return
    view = replace(view, named_roles=frozenset(pool.record_format.tags.roles))
    for trainer in _TRAINERS:
        for fault in faults_for(trainer, view):
            if fault.kind in _OF_ORDER:
                yield trainer, fault.kind


def order_words(kind: str, rows: int) -> str:
    """Return in words how many rows have a fault of order."""
    return f"{rows:,} {_OF_ORDER[kind]}"

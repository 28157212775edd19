"""The value of one field of many records, as text: what rows can be grouped by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.dataset.record_fields import decode_field, record_fields
from scalselect.errors import OptionError, SampleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool

ABSENT = "(none)"
_LOOKED_AT = 1_000


def field_values(pool: Pool | JoinedPool, rows: Iterable[int], name: str) -> list[str]:
    """Return the value of a field for each of some rows.

    Parameters
    ----------
    rows
        Row positions.
    name
        Name of a field of the records.

    Returns
    -------
    One text for each row: a string by its value, a number, true or false by its JSON text, `(none)` where the field is
    absent, null, or the record cannot be read.

    Raises
    ------
    OptionError
        No record has the field, or one holds a list or an object there.
    """
    values, seen = [], set[str]()
    for row in rows:
        try:
            fields = record_fields(pool.raw(row))
        except SampleError:
            values.append(ABSENT)
            continue
        seen.update(fields)
        values.append(_text(decode_field(fields, name), bytes(fields.get(name, b"")).decode(), name, row))
    if name not in seen:
        raise OptionError(f"no record has a field `{name}` to group rows by{did_you_mean(name, seen)}")
    return values


def has_field(pool: Pool | JoinedPool, name: str, *, first: int | None = _LOOKED_AT) -> bool:
    """Tell whether one of the `first` records has a field; None: whether any has."""
    for row in range(len(pool) if first is None else min(len(pool), first)):
        try:
            if name in record_fields(pool.raw(row)):
                return True
        except SampleError:
            continue
    return False


def _text(value: Any, raw: str, name: str, row: int) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, (list, dict)):
        raise OptionError(f"rows cannot be grouped by `{name}`: in row {row} it holds a list or an object")
    return value if isinstance(value, str) else raw

"""Single values of Arrow tables that JSON has no type for, as text: times, dates, durations, half floats."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}  # of a second's fraction


def temporal_text(cell: Any) -> str:
    """Return a timestamp, date or time in the form of ISO 8601, quoted; a timestamp with a zone in UTC, with `Z`."""
    zoned = kinds.is_timestamp(cell.type) and cell.type.tz is not None
    if zoned:
        cell = pa.scalar(cell.value, pa.timestamp(cell.type.unit))  # so that nobody needs a table of zones
    text = str(cell.cast(pa.string()).as_py())
    if kinds.is_timestamp(cell.type):
        text = text.replace(" ", "T", 1)
    return json.dumps(f"{text}Z" if zoned else text)


def duration_text(cell: Any) -> str:
    """Return a duration in seconds in the form of ISO 8601, quoted: `"PT1.500S"`, to the last digit of its unit."""
    digits = _DIGITS[cell.type.unit]
    whole, rest = divmod(abs(cell.value), 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f'"{"-" if cell.value < 0 else ""}PT{whole}{fraction}S"'


def float_text(cell: Any) -> str:
    """Return a half float as JSON writes floats."""
    return json.dumps(float(cell.as_py()))

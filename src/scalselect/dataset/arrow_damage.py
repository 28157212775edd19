"""Damaged Arrow data: which errors tell of it, and arrays looked at before their values are read."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from scalselect.failures import machine_failure

# What Arrow raises of a file that it cannot read: its own classes, of which some are Python's as well.
ARROW_ERRORS = (OSError, ValueError, NotImplementedError, pa.ArrowException)
_ALLOCATION = re.compile(r"\bof size (\d+) failed")
_IMPOSSIBLE = 1 << 40  # bytes at once; a file that wants so many tells wrong sizes


def is_damage(error: BaseException) -> bool:
    """Tell whether the file is to blame.

    It is not where handles or memory ran out or the disk fails, but for an allocation that is impossible.
    """
    if not isinstance(error, MemoryError):
        return isinstance(error, ARROW_ERRORS) and machine_failure(error) is None
    wanted = _ALLOCATION.search(str(error))
    return wanted is not None and int(wanted[1]) >= _IMPOSSIBLE


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().partition("\n")[0]


def check_array(array: Any) -> None:
    """Raise pa.ArrowInvalid where an offset or index in an array leads to where it has no values.

    Arrow itself trusts them: to read such a value may end the process. Text is looked at as bytes, since text that is
    no UTF-8 spoils its row only.
    """
    stored = array.storage if isinstance(array, pa.ExtensionArray) else array
    stored.view(_without_text(stored.type)).validate(full=True)


def _without_text(kind: Any) -> Any:  # noqa: PLR0911  one for each family of types
    """Return the type of the same layout that has bytes where `kind` has text."""
    if kinds.is_string(kind):
        return pa.binary()
    if kinds.is_large_string(kind):
        return pa.large_binary()
    if kinds.is_string_view(kind):
        return pa.binary_view()
    if kinds.is_struct(kind):
        return pa.struct([field.with_type(_without_text(field.type)) for field in _fields_of(kind)])
    if kinds.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_text(kind.value_type)))
    if kinds.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_text(kind.value_type)))
    if kinds.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_text(kind.value_type), kind.ordered)
    return kind


def _fields_of(kind: pa.StructType) -> list[pa.Field]:
    return [kind.field(place) for place in range(kind.num_fields)]

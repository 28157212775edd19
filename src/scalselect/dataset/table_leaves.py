"""The leaves of an Arrow schema: which of them hold bytes, and what must be read to know where these are null.

Parquet keeps every leaf as a column of its own, and in the order of this module; so the text of records can be read
without their images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    LeafPath = tuple[str, ...]  # names from the column on; `ITEMS` below a list, `ITEMS` and `KEYS` below a map

ITEMS, KEYS = "\0items", "\0keys"  # no names of fields


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf.

    Attributes
    ----------
    path
        Names that lead to it.
    holds_bytes
        Whether its values are bytes.
    beside
        Whether the struct it lies in is seen without it: another leaf without bytes lies below that struct.
    """

    path: LeafPath
    holds_bytes: bool
    beside: bool


def leaves(schema: pa.Schema) -> list[Leaf]:
    """Return the leaves of all columns, depth first."""
    return [leaf for name, kind in named_fields(schema) for leaf in _leaves_of(kind, (name,), beside=False)]


def named_fields(parent: Any) -> list[tuple[str, pa.DataType]]:
    """Return name and type of each field of a schema or struct type."""
    number = len(parent) if isinstance(parent, pa.Schema) else parent.num_fields
    return [(parent.field(place).name, parent.field(place).type) for place in range(number)]


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether values of a type are bytes."""
    fixed, view = kinds.is_fixed_size_binary(kind), kinds.is_binary_view(kind)
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or fixed or view)


def is_list(kind: pa.DataType) -> bool:
    """Tell whether values of a type are lists, of whatever layout; a map is none."""
    views = kinds.is_list_view(kind) or kinds.is_large_list_view(kind)
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind) or views)


def structs_around(column: pa.ChunkedArray, path: LeafPath) -> int:
    """Return how many structs, not null themselves, hold a place for the leaf at `path`.

    Parameters
    ----------
    column
        The column that the path begins with; the leaf itself need not have been read.
    """
    return sum(_structs_around(chunk, path[1:-1]) for chunk in column.chunks)


def _structs_around(array: Any, steps: LeafPath) -> int:
    for step in steps:
        array = array.flatten() if step == ITEMS else _member(array, step)
    return len(array) - int(array.null_count)


def _member(array: Any, name: str) -> Any:
    """Return the values of a struct's field, null also where the struct is."""
    return array.flatten()[array.type.get_field_index(name)]


def _leaves_of(kind: pa.DataType, path: LeafPath, *, beside: bool) -> Iterator[Leaf]:
    if isinstance(kind, pa.BaseExtensionType):
        yield from _hidden(_leaves_of(kind.storage_type, path, beside=False))
        return
    kind = stored_type(kind)
    if kinds.is_struct(kind):
        seen = _has_other_leaf(kind)
        for name, inner in named_fields(kind):
            yield from _leaves_of(inner, (*path, name), beside=seen)
    elif kinds.is_map(kind):
        yield from _leaves_of(kind.key_type, (*path, KEYS), beside=False)
        yield from _hidden(_leaves_of(kind.item_type, (*path, ITEMS), beside=False))
    elif is_list(kind):
        yield from _leaves_of(kind.value_type, (*path, ITEMS), beside=False)
    else:
        yield Leaf(path, is_bytes(kind), beside)


def _hidden(found: Iterator[Leaf]) -> Iterator[Leaf]:
    for leaf in found:  # below a map or an extension type nothing is left out
        yield Leaf(leaf.path, leaf.holds_bytes, beside=False)


def _has_other_leaf(kind: pa.DataType) -> bool:
    """Tell whether a leaf without bytes lies below a type."""
    kind = stored_type(kind)
    if kinds.is_struct(kind):
        return any(_has_other_leaf(inner) for _, inner in named_fields(kind))
    if kinds.is_map(kind):
        return _has_other_leaf(kind.key_type) or _has_other_leaf(kind.item_type)
    return _has_other_leaf(kind.value_type) if is_list(kind) else not is_bytes(kind)


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values are stored in: of an extension its storage, of a dictionary its values."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif kinds.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind

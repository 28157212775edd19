"""Whether several files of one data set have the same columns, however each of them lays these out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.types as kinds

from scalselect.dataset.table_leaves import is_bytes, is_list, named_fields, stored_type
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    Form = str | list[Any] | dict[str, Any]  # of a value, a list of one form, a struct with a form for each field

_NULL = "null"


def check_same_columns(schemas: Iterable[tuple[Path, pa.Schema]]) -> None:
    """Check that all files have the columns of the first, of the same types, in whatever order.

    Metadata, nullability, dictionaries and the sizes of offsets do not matter; a column of nulls fits any type.

    Raises
    ------
    DatasetError
        Naming the file and the columns that differ.
    """
    first: Path | None = None
    known: dict[str, Form] = {}
    for path, schema in schemas:
        columns = {name: _form(kind) for name, kind in named_fields(schema)}
        if first is None:
            first, known = path, columns
            continue
        different = [
            f"`{name}` is {_shown(columns.get(name))} there and {_shown(known.get(name))} in {first.name}"
            for name in dict.fromkeys([*known, *columns])
            if name not in known or name not in columns or not _fit(columns[name], known[name])
        ]
        if different:
            raise DatasetError(
                f"files of one data set have different columns: {path} ({'; '.join(different)}); make them alike, or "
                "give each file as a data set of its own"
            )
        known = {name: _joined(known[name], columns[name]) for name in known}


def _form(kind: pa.DataType) -> Form:
    kind = stored_type(kind)
    if kinds.is_struct(kind):
        return {name: _form(inner) for name, inner in named_fields(kind)}
    if kinds.is_map(kind):
        return ["map", _form(kind.key_type), _form(kind.item_type)]
    if is_list(kind):
        return ["list", _form(kind.value_type)]
    if is_bytes(kind):
        return "binary"
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return "string"
    return str(kind)


def _fit(one: Form, other: Form) -> bool:
    if _NULL in (one, other):
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_fit(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_fit, one, other))
    return one == other


def _joined(one: Form, other: Form) -> Form:
    """Return what fits both of two that fit each other."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: _joined(one[name], other[name]) for name in one}
    if isinstance(one, list) and isinstance(other, list):
        return [*map(_joined, one, other)]
    return other if one == _NULL else one


def _shown(form: Form | None) -> str:
    if form is None:
        return "absent"
    if isinstance(form, dict):
        return f"struct<{', '.join(f'{name}: {_shown(inner)}' for name, inner in form.items())}>"
    return form if isinstance(form, str) else f"{form[0]}<{', '.join(map(_shown, form[1:]))}>"

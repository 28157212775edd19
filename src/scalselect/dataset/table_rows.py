"""Rows of Arrow tables as JSON text, bytes values set aside: in the text stands only the number that each has."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as kinds

from scalselect.dataset.cell_texts import duration_text, float_text, temporal_text
from scalselect.dataset.table_leaves import ITEMS, is_bytes, is_list, leaves, named_fields, stored_type
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalselect.dataset.table_leaves import LeafPath

    CellWriter = Callable[[Any, "BytesSetAside"], str]  # an Arrow scalar to JSON text


@dataclass(slots=True)
class BytesSetAside:
    """The bytes values met in one record, numbered from 0, nulls not counted.

    Attributes
    ----------
    left_out
        For columns that were read without some of their bytes: whether these are there (true: in every place) or null.
    kept
        The values met so far, as Arrow scalars; None for one that was not read.
    """

    left_out: Mapping[LeafPath, bool] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)

    def mark(self, value: Any) -> str:
        """Give a value its number and return what stands in its place."""
        self.kept.append(value)
        return f'{{"embedded": {len(self.kept) - 1}}}'


class RowTexts:
    """Writes rows of one schema as JSON objects, every key kept, also where its value is null.

    Integers and decimals keep every digit, floats are NaN and Infinity where they are; times, dates, durations and
    decimals are text. A map with text keys is an object, any other a list of `{"key": ..., "value": ...}`. A bytes
    value is `{"bytes": {"embedded": n}, "path": null}`, and inside a struct as its `bytes`, `{"embedded": n}`.

    Raises
    ------
    DatasetError
        Two columns, or two fields of a struct, have the same name.
    """

    def __init__(self, schema: pa.Schema, where: object) -> None:
        paths = Counter(
            [(name,) for name in schema.names] + [leaf.path for leaf in leaves(schema) if len(leaf.path) > 1]
        )
        repeated = [".".join(path) for path, times in paths.items() if times > 1]
        if repeated:
            raise DatasetError(f"table has several fields `{repeated[0]}`: {where} (wanted: names that differ)")
        self._cells = [(name, json.dumps(name), _writer(kind, (name,))) for name, kind in named_fields(schema)]

    def text(self, cells: Mapping[str, Any], left_out: Mapping[LeafPath, bool]) -> bytes:
        """Return a record as JSON in UTF-8.

        Parameters
        ----------
        cells
            Arrow scalar of each column; a column that was not read at all because it holds nothing but bytes is
            missing.
        left_out
            See `BytesSetAside`.

        Raises
        ------
        ValueError
            Text that is not UTF-8, or a value that JSON cannot hold.
        """
        aside = BytesSetAside(left_out)
        members = []
        for name, key, write in self._cells:
            if (name,) in left_out:  # a column of nothing but bytes
                text = f'{{"bytes": {aside.mark(None)}, "path": null}}' if left_out[name,] else "null"
            else:
                text = write(cells[name], aside)
            members.append(f"{key}: {text}")
        return ("{" + ", ".join(members) + "}").encode()

    def bytes_values(self, cells: Mapping[str, Any]) -> list[Any]:
        """Return the bytes values of a record as Arrow scalars, in the order in which `text` numbers them.

        Parameters
        ----------
        cells
            Arrow scalar of each column that holds bytes, read in full; others may be missing.
        """
        aside = BytesSetAside()
        for name, _, write in self._cells:
            if name in cells:
                write(cells[name], aside)
        return aside.kept


def _is_plain(kind: pa.DataType) -> bool:
    """Tell whether Python's values of a type are written as JSON as they are."""
    if kinds.is_struct(kind):
        names = [name for name, _ in named_fields(kind)]
        return len(set(names)) == len(names) and all(_is_plain(inner) for _, inner in named_fields(kind))
    if is_list(kind):
        return _is_plain(kind.value_type)
    number = kinds.is_integer(kind) or kinds.is_float32(kind) or kinds.is_float64(kind)
    text = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
    return bool(number or text or kinds.is_boolean(kind) or kinds.is_null(kind))


def _plain_text(cell: Any, _aside: BytesSetAside) -> str:
    return json.dumps(cell.as_py(), ensure_ascii=False)


def _writer(kind: pa.DataType, path: LeafPath) -> CellWriter:  # noqa: PLR0911  one for each family of types
    """Return what writes values of a type; `path` are the names that lead to them, see `LeafPath`."""
    if _is_plain(kind):
        return _plain_text
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.json":
            return _json_text
        return _unwrapping(_writer(kind.storage_type, path))
    if kinds.is_dictionary(kind):
        return _unwrapping(_writer(kind.value_type, path))
    if is_bytes(kind):
        return _bytes_text
    if kinds.is_struct(kind):
        return _struct_writer(kind, path)
    if kinds.is_map(kind):
        return _map_writer(kind, path)
    if is_list(kind):
        return _list_writer(_writer(kind.value_type, (*path, ITEMS)))
    if kinds.is_union(kind):
        return _union_writer(path)
    return _or_null(_leaf_text(kind))


def _leaf_text(kind: pa.DataType) -> Callable[[Any], str]:
    if kinds.is_float16(kind):
        return float_text
    if kinds.is_decimal(kind):
        return lambda cell: f'"{cell.as_py():f}"'
    if kinds.is_duration(kind):
        return duration_text
    if kinds.is_timestamp(kind) or kinds.is_date(kind) or kinds.is_time(kind):
        return temporal_text
    return lambda cell: json.dumps(cell.as_py(), ensure_ascii=False, default=str)


def _or_null(text: Callable[[Any], str]) -> CellWriter:
    return lambda cell, _aside: text(cell) if cell.is_valid else "null"


def _unwrapping(write: CellWriter) -> CellWriter:
    return lambda cell, aside: write(cell.value, aside) if cell.is_valid else "null"


def _bytes_text(cell: Any, aside: BytesSetAside) -> str:
    return f'{{"bytes": {aside.mark(cell)}, "path": null}}' if cell.is_valid else "null"


def _json_text(cell: Any, _aside: BytesSetAside) -> str:
    """Return what a cell of Arrow's JSON type holds, which is such text already; a string where it is none."""
    text = cell.value.as_py() if cell.is_valid else None
    try:
        json.loads(text or "null")
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    return text or "null"


def _struct_writer(kind: pa.DataType, path: LeafPath) -> CellWriter:
    members = []
    for name, inner in named_fields(kind):
        own = name == "bytes" and is_bytes(stored_type(inner))  # of an image, which has its own struct already
        members.append(
            (name, json.dumps(name), (*path, name), _own_bytes if own else _writer(inner, (*path, name)), own)
        )

    def write(cell: Any, aside: BytesSetAside) -> str:
        if not cell.is_valid:
            return "null"
        texts = []
        for name, key, place, write_member, own in members:
            if place not in aside.left_out:
                text = write_member(cell[name], aside)
            elif not aside.left_out[place]:
                text = "null"
            else:
                text = aside.mark(None) if own else f'{{"bytes": {aside.mark(None)}, "path": null}}'
            texts.append(f"{key}: {text}")
        return "{" + ", ".join(texts) + "}"

    return write


def _own_bytes(cell: Any, aside: BytesSetAside) -> str:
    while cell.is_valid and not is_bytes(cell.type):
        cell = cell.value
    return aside.mark(cell) if cell.is_valid else "null"


def _list_writer(write: CellWriter) -> CellWriter:
    def write_list(cell: Any, aside: BytesSetAside) -> str:
        if not cell.is_valid:
            return "null"
        return "[" + ", ".join(write(item, aside) for item in cell.values) + "]"

    return write_list


def _map_writer(kind: pa.MapType, path: LeafPath) -> CellWriter:
    named = kinds.is_string(kind.key_type) or kinds.is_large_string(kind.key_type)
    write_key, write_item = _writer(kind.key_type, (*path, ITEMS)), _writer(kind.item_type, (*path, ITEMS))

    def write(cell: Any, aside: BytesSetAside) -> str:
        if not cell.is_valid:
            return "null"
        pairs = [(write_key(pair[0], aside), write_item(pair[1], aside)) for pair in cell.values]
        if named:
            return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
        return "[" + ", ".join(f'{{"key": {key}, "value": {item}}}' for key, item in pairs) + "]"

    return write


def _union_writer(path: LeafPath) -> CellWriter:
    def write(cell: Any, aside: BytesSetAside) -> str:
        value = cell.value if cell.is_valid else None
        return "null" if value is None else _writer(value.type, path)(value, aside)

    return write

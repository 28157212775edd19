"""What rows do to one another in a trainer's loader: fields of several types; and files that it does not read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from scalselect.dataset.entry_words import EntryWords
from scalselect.dataset.trainer_rules import Effect, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalselect.dataset.record_fields import Fields
    from scalselect.dataset.record_formats import RecordFormat

_KINDS = {"{": "object", "[": "list", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
_TYPED_CONTAINERS = ("parquet", "arrow", "saved")  # a column there has one type
_READ = {
    "llava": ("json", "list"),
    "llamafactory": ("json", "jsonl", "parquet", "arrow", "list"),
    "ms-swift": ("json", "jsonl", "parquet", "list"),
}
_LLAVA_KEY = "conversations"


@dataclass(slots=True)
class FieldKinds:
    """The types that the fields of many records have, each with the first row of it. Grows with fields, not with rows.

    Attributes
    ----------
    first_rows
        Path of a field, such as `id` or `meta.tags[]`, to type to row.
    words
        What the records use of what an entry of `dataset_info.json` names once.
    """

    first_rows: dict[str, dict[str, int]] = field(default_factory=dict)
    words: EntryWords = field(default_factory=EntryWords)

    def add(self, row: int, fields: Fields, record_format: RecordFormat) -> None:
        """Look at a record: at all fields but the turns, down to the last list and object."""
        for name, raw in fields.items():
            text = bytes(raw)
            kind = _KINDS.get(chr(text[0]), "number")
            self._note(name, kind, row)
            if kind in ("object", "list") and name not in record_format.image_keys and not _is_turns(text):
                try:
                    self._walk(name, msgspec.json.decode(text), row)
                except (msgspec.MsgspecError, ValueError, RecursionError):
                    continue  # told as a record that cannot be read, or harmless

    def merge(self, other: FieldKinds) -> None:
        """Take in what was found of other rows."""
        for path, kinds in other.first_rows.items():
            for kind, row in kinds.items():
                self._note(path, kind, row)
        self.words.merge(other.words)

    def mixed(self) -> dict[str, dict[str, int]]:
        """Return the fields that have several types; null counts with every type."""
        found = {}
        for path, kinds in self.first_rows.items():
            told = {kind: row for kind, row in kinds.items() if kind != "null"}
            if len(told) > 1:
                found[path] = told
        return found

    def _walk(self, path: str, value: object, row: int) -> None:
        items: Iterable[tuple[str, object]] = ()
        if isinstance(value, dict):
            items = ((f"{path}.{name}", item) for name, item in value.items())
        elif isinstance(value, list):
            items = ((f"{path}[]", item) for item in value)
        for inner, item in items:
            self._note(inner, _kind_of(item), row)
            if isinstance(item, (dict, list)):
                self._walk(inner, item, row)

    def _note(self, path: str, kind: str, row: int) -> None:
        rows = self.first_rows.setdefault(path, {})
        if row < rows.get(kind, row + 1):
            rows[kind] = row


def faults_of_file(trainer: str, container: str, record_format: RecordFormat, kinds: FieldKinds) -> list[Fault]:
    """Return what a trainer would not take of a data set as a whole.

    Parameters
    ----------
    container
        What the records are kept in; see `RecordSource.container`.
    kinds
        The types of the fields of all its records.
    """
    found = []
    read = _READ.get(trainer, (container,))
    if container not in read:
        *others, last = (name for name in read if name != "list")
        detail = f"it reads {', '.join(others)}{' or ' if others else ''}{last}, and this is {container}"
        found.append(Fault("container_not_read", "stops the run", detail))
    if trainer == "llava" and _LLAVA_KEY not in kinds.first_rows:
        found.append(Fault("format_not_read", "stops the run", "no record has `conversations`, where turns are read"))
    if trainer == "llamafactory" and record_format.name == "prompt-completion":
        found.append(Fault("format_not_read", "stops the run", "prompt and completion are not read"))
    if trainer == "llamafactory":
        found += kinds.words.faults()
    if trainer == "llamafactory" and container not in _TYPED_CONTAINERS:
        found += [
            Fault(kind, effect, f"`{path}` is {_listed(rows)}")
            for path, rows in kinds.mixed().items()
            for kind, effect in [_kind_and_effect(path, record_format)]
        ]
    return found


def _kind_and_effect(path: str, record_format: RecordFormat) -> tuple[str, Effect]:
    if path == "id":
        return "mixed_id_types", "stops the run"
    return ("mixed_image_types" if path in record_format.image_keys else "mixed_field_types"), "stops the run"


def _listed(rows: dict[str, int]) -> str:
    first, *others = sorted(rows.items(), key=lambda pair: pair[1])
    told = [f"a {first[0]} in row {first[1]}", *(f"a {kind} in row {row}" for kind, row in others)]
    return ", ".join(told).replace("a object", "an object") + ": no row loads"


def _is_turns(text: bytes) -> bool:
    """Tell whether a field holds the turns: a list of objects with a role."""
    return text.startswith(b"[{") and (b'"from"' in text or b'"role"' in text)


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", str: "string", dict: "object", list: "list"}
    return kinds.get(type(value), "number")

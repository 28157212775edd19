"""What a trainer's loader will meet in the chosen records of one data set: keys, roles, kinds of ids and images."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from scalselect.dataset.export_rules import why_left_out
from scalselect.dataset.order_faults import order_faults
from scalselect.records import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalselect.dataset.pool import Pool

_TURNS_KEYS = ("conversations", "messages", "conversation")
_TEXT_KEYS = ("system", "instruction", "input", "output", "history", "query", "response", "prompt", "completion")
_TURN_KEYS = (("from", "value"), ("role", "content"))
_ELSEWHERE = re.compile(r"/|[a-z][a-z0-9+.\-]*:", re.IGNORECASE)  # an absolute path or a URL
_MARKER = re.compile(rb"(?:<|\\u003c)image(?:>|\\u003e)", re.IGNORECASE)  # also as JSON may escape it
_KNOWN_FIELDS = 1_000
_BESIDES = ("id", *_TURNS_KEYS)  # told apart from other fields: ids, and what is looked into


@dataclass(slots=True)
class SubsetFacts:
    """Counts over the chosen records of one data set; all are of records unless another unit is said.

    Attributes
    ----------
    rows, text_only, several_images, without_marker
        All; those that show no image; those that show more than one; those that show some and have no `<image>`.
    ids
        By the JSON type of their id: `string`, `number`, `null`, `absent`, `other`.
    image_keys, turns_keys
        The keys under which they keep images and turns, most frequent first.
    image_lists, image_nulls
        Those with a list under a key of images, and those with a null; others have neither, or no such key.
    mixed_images
        Keys of images that hold a list in some records and something else in others.
    relative, in_data
        Those with an image path that is relative; those with image bytes in the data themselves.
    turn_keys
        How turns are written, most frequent first: `["from", "value"]`, `["role", "content"]`.
    roles
        The roles of turns as written, most frequent first.
    content_parts
        Those with a turn whose content is a list.
    text_keys
        Keys of texts beside a list of turns, such as `system` or `instruction`, that some record fills.
    mixed_fields
        Fields, ids and images apart, that hold values of several JSON types.
    order_faults
        By trainer and kind those whose turns are in an order that it does not train on as it is.
    not_for_llava
        By reason those that `export --to llava` leaves out; those with `tool_calls` are left out of other forms too.
    """

    rows: int = 0
    text_only: int = 0
    several_images: int = 0
    without_marker: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    image_keys: list[str] = field(default_factory=list)
    turns_keys: list[str] = field(default_factory=list)
    image_lists: int = 0
    image_nulls: int = 0
    mixed_images: list[str] = field(default_factory=list)
    relative: int = 0
    in_data: int = 0
    turn_keys: list[list[str]] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    content_parts: int = 0
    text_keys: list[str] = field(default_factory=list)
    mixed_fields: list[str] = field(default_factory=list)
    order_faults: dict[str, dict[str, int]] = field(default_factory=dict)
    not_for_llava: dict[str, int] = field(default_factory=dict)

    @property
    def tool_calls(self) -> int:
        """Those with calls of tools beside the text of a turn."""
        return self.not_for_llava.get("tool_calls", 0)


def facts_of_rows(pool: Pool, rows: Iterable[int]) -> SubsetFacts:
    """Return the facts of some rows of a pool; Raises DataChangedError."""
    counted = _Counted(pool.image_keys)
    for row in rows:
        raw = pool.raw(row)
        counted.add(_decoded(raw), has_marker=_MARKER.search(raw) is not None)
        counted.add_losses(pool, row)
    return counted.facts()


class _Counted:
    """What was counted so far."""

    def __init__(self, image_keys: tuple[str, ...]) -> None:
        self._image_keys = image_keys
        self._facts = SubsetFacts()
        self._ids: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._turns_keys: Counter[str] = Counter()
        self._turn_keys: Counter[tuple[str, str]] = Counter()
        self._roles: Counter[str] = Counter()
        self._types: dict[str, set[str]] = {}

    def add(self, record: dict[str, Any], *, has_marker: bool) -> None:
        self._facts.rows += 1
        self._ids[_type_of(record["id"]) if "id" in record else "absent"] += 1
        turns_key = next((key for key in _TURNS_KEYS if isinstance(record.get(key), list)), None)
        parts = []
        if turns_key is not None:
            self._turns_keys[turns_key] += 1
            parts = self._parts_of(record[turns_key])
        shown = self._add_images(record, parts)
        self._facts.text_only += shown == 0
        self._facts.several_images += shown > 1
        self._facts.without_marker += shown > 0 and not has_marker
        for key, value in record.items():
            if key not in _BESIDES and value not in (None, "") and (value != [] or key in self._image_keys):
                self._add_type(key, value)

    def add_losses(self, pool: Pool, row: int) -> None:
        """Count what trainers make of the order of turns, and what LLaVA cannot be given at all."""
        for trainer, kind in order_faults(pool, row):
            faults = self._facts.order_faults.setdefault(trainer, {})
            faults[kind] = faults.get(kind, 0) + 1
        sample = next(iter(pool.samples_at([row])))
        reason = why_left_out("llava", sample, pool, row) if isinstance(sample, Sample) else None
        if reason is not None:
            self._facts.not_for_llava[reason] = self._facts.not_for_llava.get(reason, 0) + 1

    def _parts_of(self, turns: list[Any]) -> list[Any]:
        """Count roles, and return the content parts of all turns."""
        parts: list[Any] = []
        in_parts = False
        for turn in turns:
            pair = next((pair for pair in _TURN_KEYS if isinstance(turn, dict) and pair[0] in turn), None)
            if pair is None:
                continue
            self._turn_keys[pair] += 1
            self._roles[str(turn[pair[0]])] += 1
            if isinstance(turn.get(pair[1]), list):
                parts += turn[pair[1]]
                in_parts = True
        self._facts.content_parts += in_parts
        return parts

    def _add_images(self, record: dict[str, Any], parts: list[Any]) -> int:
        """Count what stands for images, and return how many images the record shows."""
        key = next((key for key in self._image_keys if record.get(key) not in (None, "", [])), None)
        value = None if key is None else record[key]
        images = value if isinstance(value, list) else [] if value is None else [value]
        if key is not None:
            self._keys[key] += 1
        held = [record[key] for key in self._image_keys if key in record]
        self._facts.image_lists += any(isinstance(value, list) for value in held)
        self._facts.image_nulls += any(value is None for value in held)
        self._facts.in_data += any(_in_data(image) for image in images)
        self._facts.relative += any(_relative(image) for image in images)
        return len(images) or sum(1 for part in parts if isinstance(part, dict) and "image" in str(part.get("type")))

    def _add_type(self, key: str, value: Any) -> None:
        if key in self._types or len(self._types) < _KNOWN_FIELDS:
            types = self._types.setdefault(key, set())
            types.add("list" if isinstance(value, list) else _type_of(value))
            if isinstance(value, list) and key not in self._image_keys:
                types.update(f"list of {_type_of(item)}" for item in value if item is not None)

    def facts(self) -> SubsetFacts:
        facts = self._facts
        facts.ids = dict(sorted(self._ids.items()))
        facts.image_keys = [key for key, _ in self._keys.most_common()]
        facts.turns_keys = [key for key, _ in self._turns_keys.most_common()]
        facts.turn_keys = [list(pair) for pair, _ in self._turn_keys.most_common()]
        facts.roles = [role for role, _ in self._roles.most_common()]
        facts.text_keys = [key for key in _TEXT_KEYS if key in self._types]
        mixed = sorted(key for key, types in self._types.items() if _mixed(types))
        facts.mixed_images = [key for key in mixed if key in self._image_keys]
        facts.mixed_fields = [key for key in mixed if key not in self._image_keys]
        return facts


def _decoded(raw: bytes) -> dict[str, Any]:
    """Return a record; one that no reader takes whole has nothing to tell."""
    try:
        record = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:
            record = json.loads(raw.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return {}
    return record if isinstance(record, dict) else {}


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "object" if isinstance(value, dict) else "other"


def _mixed(types: set[str]) -> bool:
    plain = {name for name in types if not name.startswith("list of ")}
    return len(plain) > 1 or len(types) - len(plain) > 1


def _in_data(image: object) -> bool:
    if isinstance(image, dict):
        return image.get("bytes") is not None
    return isinstance(image, str) and image[:5].lower() == "data:"


def _relative(image: object) -> bool:
    path = image.get("path") if isinstance(image, dict) and image.get("bytes") is None else image
    return isinstance(path, str) and not _ELSEWHERE.match(path)

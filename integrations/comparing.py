"""Hold what a consumer printed against what the subset says; every difference is a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from integrations.expected import MARKER, collapsed

if TYPE_CHECKING:
    from integrations.expected import Expected

STEPS = 2  # of training
_SHOWN = 160  # characters of a text in a difference


@dataclass(frozen=True)
class Outcome:
    """What became of one file at one consumer.

    Attributes
    ----------
    consumer, file
        Names for people.
    fault, sign
        The one known fault of the file, and a pattern that one of the differences must match; None for a subset as it
        was written.
    rows
        Number of rows of the file.
    result
        What the consumer printed; None if it ended before.
    found
        The differences.
    """

    consumer: str
    file: str
    fault: str | None
    sign: str | None
    rows: int
    result: dict[str, Any] | None
    found: list[str]

    @property
    def as_it_must_be(self) -> bool:
        """A subset gives no difference; a file with a fault gives those of that fault."""
        if self.result is None:
            return False
        return any(re.search(self.sign, line) for line in self.found) if self.sign else not self.found


def differences(
    rows: list[Expected], result: dict[str, Any], *, image_tokens: int = 1, trained: bool = True
) -> list[str]:
    """Return what a consumer did otherwise than the subset says; nothing if all is as it must be.

    Parameters
    ----------
    rows
        What must be reported, in the order of the subset.
    result
        What the consumer printed, as `consumers/reporting.py` says.
    image_tokens
        How often a text repeats the marker for each picture.
    trained
        Whether it had to train.
    """
    if result["error"] is not None:
        return [f"it failed: {result['error'][:_SHOWN]}"]
    found = [
        f"{name} is {result[name]}, and the file has {len(rows)} rows"
        for name in ("rows_in", "rows_kept")
        if result[name] not in (None, len(rows))
    ]
    if trained and (len(result["losses"]) != STEPS or not all(0 < loss < float("inf") for loss in result["losses"])):
        found.append(f"it did not train {STEPS} steps: losses {result['losses']}")
    if result["ids"] is not None:
        found += _unequal("id", [row.id for row in rows], result["ids"])
    texts = [collapsed(text.replace(MARKER * image_tokens, f" {MARKER} ")) for text in result["texts"]]
    found += _unequal("text", [collapsed(row.text.replace(MARKER, f" {MARKER} ")) for row in rows], texts)
    if result["images"] is not None:
        found += _unequal("images", [list(row.images) for row in rows], result["images"])
    return found


def _unequal(what: str, wanted: list[Any], given: list[Any]) -> list[str]:
    return [
        f"{what} of row {row}: {_from_difference(other, one)} for {_from_difference(one, other)}"
        for row, (one, other) in enumerate(zip_longest(wanted, given))
        if one != other or type(one) is not type(other)
    ]


def _from_difference(one: Any, other: Any) -> str:
    """Return a value as shown; of long texts that begin alike what follows."""
    if not isinstance(one, str) or not isinstance(other, str):
        return repr(one)[:_SHOWN]
    alike = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    begin = max(0, one.rfind(" ", 0, alike)) if alike > _SHOWN // 2 else 0
    return ("..." if begin else "") + repr(one[begin : begin + _SHOWN])

"""Entries of LLaMA-Factory's `dataset_info.json` for chosen records, and what it could not read of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.entry_words import entry_tags
from scalselect.dataset.trainer_rules import ENTRY_ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.dataset.subset_facts import SubsetFacts
    from scalselect.training_sets import TrainingSet

_OF_JSON = ("json", "jsonl", "json.gz", "jsonl.gz", "list")
_SHOWN = 5
_OF_TYPE = {"string": "a string", "number": "a number", "object": "an object", "other": "of another type"}
_QUESTIONS = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": "history"},
    "query-response": {"prompt": "query", "response": "response", "history": "history"},
}


def entry_of(file: str, part: TrainingSet | None = None) -> dict[str, Any]:
    """Return the entry for a file.

    Tags are always given in full: one that an entry leaves out beside others is none for LLaMA-Factory, which then
    drops every row that has such a turn.

    Parameters
    ----------
    part
        What the file holds; None for one that `scalselect export --to messages` wrote.
    """
    if part is None:
        columns = {"messages": "messages", "images": "images"}
        return {
            "file_name": file,
            "formatting": "sharegpt",
            "columns": columns,
            "tags": entry_tags("role", "content", ()),
        }
    if part.mapping is not None:
        entry = {"file_name": file, **part.mapping}
        if "tags" in entry:
            entry["tags"] = {**entry_tags("from", "value", ()), **entry["tags"]}
        return entry
    facts = part.facts
    images = {"images": facts.image_keys[0]} if facts.image_keys else {}
    system = {"system": "system"} if "system" in facts.text_keys else {}
    if part.format in _QUESTIONS:
        there = {name: key for name, key in _QUESTIONS[part.format].items() if key in facts.text_keys}
        return {"file_name": file, "formatting": "alpaca", "columns": {**there, **system, **images}}
    role, content = facts.turn_keys[0] if facts.turn_keys else ("from", "value")
    return {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": facts.turns_keys[0] if facts.turns_keys else "conversations", **system, **images},
        "tags": entry_tags(role, content, facts.roles),
    }


@dataclass(frozen=True, slots=True)
class Mixture:
    """Values of several JSON types where Arrow, and so `datasets` and LLaMA-Factory, want one.

    Attributes
    ----------
    words
        What is mixed.
    remedy
        Options of `scalselect export` that write a file without it.
    """

    words: str
    remedy: str


def mixtures(source: str, container: str, facts: SubsetFacts) -> list[Mixture]:
    """Return what is mixed in records that lie in JSON; tables have one type a column by themselves."""
    if container not in _OF_JSON:
        return []
    found = []
    kinds = {kind: rows for kind, rows in facts.ids.items() if kind not in {"null", "absent"}}
    if len(kinds) > 1:
        told = " and ".join(
            f"{_OF_TYPE.get(kind, kind)} in {rows:,} {'row' if rows == 1 else 'rows'}" for kind, rows in kinds.items()
        )
        others = facts.mixed_images or facts.mixed_fields  # which strings for ids would not mend
        remedy = "--to messages" if others else "--to source --ids-as-strings"
        found.append(Mixture(f"the id of `{source}` is {told}", remedy))
    if facts.mixed_images:
        keys = _listed(facts.mixed_images)
        found.append(Mixture(f"{keys} of `{source}` is a list in some rows and not in others", "--to messages"))
    if facts.mixed_fields:
        keys = ", ".join(f"`{key}`" for key in facts.mixed_fields[:_SHOWN])
        more = f" and {len(facts.mixed_fields) - _SHOWN} more" if len(facts.mixed_fields) > _SHOWN else ""
        found.append(Mixture(f"values of {keys}{more} of `{source}` are of several types", "--to messages"))
    return found


def why_not_llamafactory(part: TrainingSet) -> list[str]:
    """Return what stops LLaMA-Factory from reading records, or would make it drop some; see `docs/training.md`."""
    facts, name = part.facts, f"`{part.source}`"
    reasons = [mixture.words for mixture in mixtures(part.source, part.container, facts)]
    if part.format == "prompt-completion":
        reasons.append(f"{name} has prompt and completion, which it does not read")
    if part.mapping is None and len(facts.turns_keys) > 1:
        reasons.append(f"turns of {name} are under {_listed(facts.turns_keys)}, and it reads one key")
    if part.mapping is None and len(facts.turn_keys) > 1:
        reasons.append(f"turns of {name} are written in two ways, and it reads one")
    if part.mapping is None and any(len(set(words) & set(facts.roles)) > 1 for words in ENTRY_ROLES.values()):
        reasons.append(f"{name} calls the same role by several words ({', '.join(facts.roles)})")
    if len(facts.image_keys) > 1:
        reasons.append(f"images of {name} are under {_listed(facts.image_keys)}, and it reads one key")
    if facts.without_marker and not facts.content_parts:
        reasons.append(f"{_records(facts.without_marker)} of {name} with images and no `<image>`, which stops it")
    if facts.in_data and part.container in _OF_JSON:
        reasons.append(f"{_records(facts.in_data)} of {name} with image bytes in their text")
    if facts.tool_calls:
        reasons.append(f"{_records(facts.tool_calls)} of {name} with calls of tools under a key that it does not read")
    if facts.content_parts:
        reasons.append(f"{_records(facts.content_parts)} of {name} with content in parts")
    return reasons


def _records(number: int) -> str:
    return f"{number:,} {'record' if number == 1 else 'records'}"


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(f"`{key}`" for key in keys)

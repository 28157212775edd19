"""The record format that an entry of LLaMA-Factory's `dataset_info.json` describes: its columns and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.dataset.conversations import TurnTags
from scalselect.dataset.record_fields import shown
from scalselect.dataset.record_formats import RecordFormat
from scalselect.dataset.turn_sources import QuestionAndAnswer, TurnList
from scalselect.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.dataset.turn_sources import TurnSource
    from scalselect.records import Role

MAPPED_FORMAT = "dataset-info"

# What holds where an entry has no `columns`, or no `tags`; one that has them holds just what it lists.
_COLUMNS = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output"},
    "sharegpt": {"messages": "conversations"},
}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_ROLES: dict[str, Role] = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "assistant",
    "system_tag": "system",
}
_READ_COLUMNS = ("prompt", "query", "response", "history", "messages", "system", "images", "videos", "audios")
_OTHER_COLUMNS = ("tools", "chosen", "rejected", "kto_tag")
_FORMATTINGS = ("alpaca", "sharegpt")


def resolved_mapping(entry: Mapping[str, Any], where: str = "dataset_info.json") -> dict[str, Any]:
    """Return what an entry says of its records, its defaults filled in: `formatting`, `columns` and `tags`.

    Small, fit for JSON, and a mapping that is resolved already stays as it is.

    Parameters
    ----------
    where
        Whose entry this is, for messages.

    Raises
    ------
    OptionError
        It holds what LLaMA-Factory could not read, or what is not supported here.
    """
    formatting = entry.get("formatting", "alpaca")
    if formatting not in _FORMATTINGS:
        near = did_you_mean(str(formatting), _FORMATTINGS)
        raise OptionError(
            f"`formatting` must be alpaca or sharegpt in {where}: {shown(formatting)}{near}{_openai(formatting)}"
        )
    columns = _names(entry, "columns", (*_READ_COLUMNS, *_OTHER_COLUMNS), where)
    if columns is None:
        columns = dict(_COLUMNS[formatting])
    columns = {name: columns[name] for name in _READ_COLUMNS if name in columns}
    mapping: dict[str, Any] = {"formatting": formatting, "columns": columns}
    if formatting == "alpaca":
        if not {"prompt", "query"} & set(columns):
            raise OptionError(f"`columns` lacks `prompt` in {where}; LLaMA-Factory takes none from its defaults then")
        return mapping
    tags = _names(entry, "tags", tuple(_TAGS), where)
    tags = dict(_TAGS) if tags is None else tags
    for kind, name, there in (
        ("columns", "messages", columns),
        ("tags", "role_tag", tags),
        ("tags", "content_tag", tags),
    ):
        if name not in there:
            raise OptionError(f"`{kind}` lacks `{name}` in {where}; LLaMA-Factory takes none from its defaults then")
    mapping["tags"] = {name: tags[name] for name in _TAGS if name in tags}
    return mapping


def format_from_mapping(mapping: Mapping[str, Any]) -> RecordFormat:
    """Return the record format of a mapping, as LLaMA-Factory reads it. Raises OptionError; see `resolved_mapping`."""
    resolved = resolved_mapping(mapping)
    columns, formatting = resolved["columns"], resolved["formatting"]

    def keys(*names: str) -> tuple[str, ...]:
        return tuple(columns[name] for name in names if name in columns)

    if formatting == "alpaca":
        source: TurnSource = QuestionAndAnswer(keys("prompt", "query"), columns.get("response"), columns.get("history"))
        tags = TurnTags((("role", "content"),))
    else:
        source = TurnList(keys("messages"), rounds=False)
        named = resolved["tags"]
        roles = {named[tag]: role for tag, role in _ROLES.items() if tag in named}
        tags = TurnTags(((named["role_tag"], named["content_tag"]),), roles)
    return RecordFormat(
        MAPPED_FORMAT,
        f"Records as their dataset_info.json has them, {formatting}",
        source,
        keys("images"),
        columns.get("system"),
        tags,
        keys("videos", "audios"),
    )


def _names(entry: Mapping[str, Any], kind: str, known: tuple[str, ...], where: str) -> dict[str, str] | None:
    """Return the filled names under `columns` or `tags`, None where the entry has no such key."""
    if kind not in entry:
        return None
    names = entry[kind]
    if not isinstance(names, dict):
        raise OptionError(f"`{kind}` must be an object in {where}: {shown(names)}")
    for name, value in names.items():
        if name not in known:
            raise OptionError(f"`{kind}` has an unknown name in {where}: {shown(name)}{did_you_mean(str(name), known)}")
        if value is not None and not isinstance(value, str):
            raise OptionError(f"`{kind}` must hold names of keys in {where}: {name} = {shown(value)}")
    return {name: value for name, value in names.items() if value}


def _openai(formatting: object) -> str:
    if formatting != "openai":
        return ""
    advice = "it adds `detailed thinking off` to every system prompt; give the data file with --format messages"
    return f" ({advice})"

"""The commands that make a run again, rebuilt from run.json: options beside the default, `auto` values resolved."""

from __future__ import annotations

import math
import shlex
from dataclasses import MISSING, dataclass, field, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from scalselect.config import DEFAULT_MAX_SKIPPED, RepresentConfig, ScoreConfig, SelectConfig
from scalselect.segments import segments_of
from scalselect.trainers import preset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scalselect.segments import Segment

# Told with the data, or of no effect on what is made.
_ELSEWHERE = {"images", "format", "dataset_info", "limit", "shard_size", "budget", "chat_template"}
_LISTS = ("include_rows", "include_ids", "exclude_rows", "exclude_ids", "quotas")


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to be typed, in order, each as one text of lines; and what they cannot say."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def commands_of(
    run: Mapping[str, Any], folder: Path, selection: Mapping[str, Any] | None, *, skipped_percent: float = 0.0
) -> Commands:
    """Return the commands that make this run in another folder of the same name.

    Parameters
    ----------
    run
        The content of run.json.
    folder
        The run folder.
    selection
        The content of selection.json; None where nothing was selected.
    skipped_percent
        Rows skipped, of a hundred that were not text-only: above the default, somebody allowed it.
    """
    found = Commands()
    place = shlex.quote(str(folder.absolute()))
    # It is not recorded: any value that lets the run through makes the same.
    allowed = [f"--max-skipped {math.ceil(skipped_percent)}%"] if skipped_percent > DEFAULT_MAX_SKIPPED else []
    score, select = run.get("score") or {}, run.get("select") or {}
    choice = [] if selection is None else _choice(select)
    if "representations" in run["represent"]:
        vectors = shlex.quote(run["represent"]["representations"])
        told = _changed(ScoreConfig, score)
        found.lines.append(_command([f"scalselect score --representations {vectors}", f"--output {place}", *told]))
        if choice:
            found.lines.append(_command([f"scalselect select {place}", *choice]))
        found.notes.append("The file of vectors is named as run.json knows it, without its folder.")
        return found
    segments = segments_of(run)
    began_with = len(run["represent"].get("data_sets", [None]))
    data = _data(segments[:began_with])
    model = run.get("model")
    words = [
        f"{data} --model {'MODEL' if model is None else shlex.quote(str(model))}",
        f"--output {place}",
        *_of_representing(run),
        *allowed,
        *_changed(ScoreConfig, score),
    ]
    verb = "scalselect run" if choice else "scalselect represent"
    if not choice:
        words = words[: len(words) - len(_changed(ScoreConfig, score))]
    found.lines.append(_command([f"{verb} {words[0]}", *words[1:2], *choice, *words[2:]]))
    if not choice and score:
        found.lines.append(_command([f"scalselect score {place}", *_changed(ScoreConfig, score)]))
    if len(segments) > began_with:
        data = _data(segments[began_with:], named=True)
        found.lines.append(_command([f"scalselect extend {place} {data}", *allowed]))
    found.notes.extend(_notes(run, segments, select))
    return found


def _data(segments: Sequence[Segment], *, named: bool = False) -> str:
    """Return data sets as words of the command line."""
    if len(segments) == 1 and not named:
        only = segments[0]
        if only.path is None:
            return "DATASET"
        images = only.images and str(PurePath(only.path).parent) != only.images
        return shlex.quote(only.path) + (f" --images {shlex.quote(only.images)}" if images else "")
    return " ".join(
        shlex.quote(
            f"{segment.source}={'DATASET' if segment.path is None else segment.path}"
            + (f",images={segment.images}" if segment.images else "")
        )
        for segment in segments
    )


def _of_representing(run: Mapping[str, Any]) -> list[str]:
    represent = run["represent"]
    like = represent.get("like")
    implied = preset(like) if like else {}
    options = _changed(RepresentConfig, represent, implied)
    template = run.get("chat_template")
    if template is not None and implied.get("chat_template") != template:
        options.append(f"--chat-template {shlex.quote(str(template))}")
    if represent.get("max_rows") is not None:
        options.append(f"--batch-size {represent['max_rows']}")
    if represent.get("limit") is not None:
        options.append(f"--limit {represent['limit']}")
    return options


def _choice(select: Mapping[str, Any]) -> list[str]:
    options = {name: value for name, value in select.items() if value != "a list"}
    return [f"--budget {shlex.quote(str(select['budget']))}", *_changed(SelectConfig, options)]


def _changed(group: type, recorded: Mapping[str, Any], implied: Mapping[str, Any] | None = None) -> list[str]:
    """Return the options of a group whose recorded value is neither the default nor implied by `like`."""
    told = []
    for item in fields(group):
        if item.name not in recorded or item.name in _ELSEWHERE or item.default is MISSING:
            continue
        value, usual = recorded[item.name], (implied or {}).get(item.name, item.default)
        if value is None or value == usual:
            continue
        flag = item.name.replace("_", "-")
        if isinstance(value, bool):
            told.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            told.append(f"--{flag} {shlex.quote(str(value))}")
    return told


def _command(words: Sequence[str]) -> str:
    return " \\\n    ".join(word for word in words if word)


def _notes(run: Mapping[str, Any], segments: Sequence[Segment], select: Mapping[str, Any]) -> list[str]:
    notes = []
    if any(segment.path is None for segment in segments):
        notes.append("The data were a Python object: in place of DATASET write its records to a file, or use Python.")
    if any(segment.mapping is not None for segment in segments):
        notes.append("A dataset_info.json said where the records keep what: give it with --dataset-info.")
    if run.get("model") is None:
        notes.append("The model was given as a Python object: name its checkpoint in place of MODEL.")
    given = [name for name in _LISTS if select.get(name) == "a list"]
    if given:
        notes.append(f"Given in Python, as lists that are not recorded: {', '.join(given)}.")
    notes.append(
        "What `auto` stood for is written out, so that the numbers come out the same on the same kind of device with "
        "the versions below."
    )
    return notes

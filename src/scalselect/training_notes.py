"""The words of `how_to_train.md`: what each trainer is given for a subset, and what it would stumble over."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from scalselect.dataset.order_faults import order_words
from scalselect.dataset_info_entry import entry_of, why_not_llamafactory
from scalselect.training_llava import llava_notes
from scalselect.training_parts import (
    LOCAL_RUN,
    UNKNOWN_FOLDER,
    Export,
    Notes,
    code,
    counted,
    folder_of,
    folders,
    out_of_order,
    told_orders,
    total,
    unpacking,
    unread,
    with_calls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalselect.training_sets import TrainingSet

_SWIFT_FORMATS = ("llava", "messages", "alpaca", "query-response")
_LOCAL_IMAGES = "LOCAL_IMAGE_DIR"


def notes_of(sets: Sequence[TrainingSet], run_dir: str, budget: str | None = None) -> list[Notes]:
    """Return the notes for every trainer.

    Parameters
    ----------
    sets
        The parts of the subset, one for each data set; those of which nothing was chosen are passed over.
    run_dir
        The run folder, for commands.
    budget
        The budget that the subset belongs to, where it is not the run's first.
    """
    local = _on_disk([part for part in sets if part.files], run_dir)
    export = Export(run_dir, budget)
    writers: tuple[Callable[[Sequence[TrainingSet], Export], Notes], ...] = (_llamafactory, _swift, llava_notes)
    in_place = all(part.images is None or "://" not in part.images for part in sets)
    return [*(write(local, export) for write in writers), _trl(local, export, embed=not in_place)]


def document(notes: Sequence[Notes], sets: Sequence[TrainingSet], run_dir: str, seen: str, like: str) -> str:
    """Return the whole of `how_to_train.md`.

    Parameters
    ----------
    seen
        How the pool was seen, in words.
    like
        The trainer that the command of `scalselect check` names.
    """
    full = [part for part in sets if part.files]
    files = "\n".join(
        f"- {counted(part.facts.rows, 'record')} of `{part.source}`{_text_only_words(part)}: "
        + ", ".join(f"`{file}`" for file in part.files)
        for part in full
    )
    empty = [file for part in sets for file in part.empty]
    if empty:
        told = ", ".join(f"`{file}`" for file in empty)
        files += f"\n\nNothing was chosen of {told}: an empty file, which loaders stop at, is in no command below."
    files += _copies(full, run_dir)
    if any(part.facts.relative and not part.images for part in full):
        files += (
            f"\n\n`{UNKNOWN_FOLDER}` stands for the folder that image paths start from, which the run does not know."
        )
    sections = "\n\n".join(f"## {note.trainer}\n\n{note.text}" for note in notes)
    return f"# How to train with this subset\n\n{files}\n\n{seen}\n\n{_check_words(full, like)}\n\n{sections}\n"


def _on_disk(sets: Sequence[TrainingSet], run_dir: str) -> list[TrainingSet]:
    """Return the sets with names of local folders for what lies in an object store."""
    names = _local_names(sets)
    remote = "://" in run_dir
    return [
        replace(
            part,
            files=tuple(LOCAL_RUN + file.removeprefix(run_dir) for file in part.files) if remote else part.files,
            images=names.get(part.images or "", part.images),
        )
        for part in sets
    ]


def _local_names(sets: Sequence[TrainingSet]) -> dict[str, str]:
    roots = dict.fromkeys(part.images for part in sets if part.facts.relative and part.images)
    remote = [root for root in roots if "://" in root]
    return {root: _LOCAL_IMAGES + (f"_{number}" if number > 1 else "") for number, root in enumerate(remote, start=1)}


def _copies(sets: Sequence[TrainingSet], run_dir: str) -> str:
    """Return what must be copied from an object store first, and how the copies are called."""
    places = {run_dir: LOCAL_RUN} if "://" in run_dir else {}
    places |= _local_names(sets)
    if not places:
        return ""
    told = " and ".join(f"`{place}` to a folder that is called `{name}`" for place, name in places.items())
    return f"\n\nThese trainers read local disks: copy {told} below; put its absolute path there."


def _check_words(sets: Sequence[TrainingSet], like: str) -> str:
    """Return how to ask which rows a trainer would drop or stop at."""
    roots = {part.images for part in sets if part.facts.relative}
    words, images = [file for part in sets for file in part.files], list[str]()
    if len(roots) == 1:
        images = ["--images", folder_of(sets) or UNKNOWN_FOLDER]
    elif roots:
        words = [
            f"{name}={file}" + (f",images={part.images or UNKNOWN_FOLDER}" if part.facts.relative else "")
            for part in sets
            for name, file in zip(part.names, part.files, strict=True)
        ]
    others = [name for name in ("llamafactory", "llava", "ms-swift", "trl") if name != like]
    return (
        f"`{shlex.join(['scalselect', 'check', *words, *images, '--like', like])}`, or with another of "
        f"{', '.join(others[:-1])} and {others[-1]}, names the rows that this trainer would drop, replace or stop at."
    )


def _text_only_words(part: TrainingSet) -> str:
    return f", {part.facts.text_only:,} of them text-only" if part.facts.text_only else ""


def _llamafactory(sets: Sequence[TrainingSet], export: Export) -> Notes:
    reasons = [*unread(sets), *(reason for part in sets for reason in why_not_llamafactory(part)), *folders(sets)]
    lines = []
    folder = folder_of(sets)
    if reasons:
        lines += ["It cannot train on the subset as it is: " + "; ".join(reasons) + ".", "Export it first:", ""]
        lines += _messages(sets, export)
        entries = {"chosen": entry_of(export.file("messages.jsonl"))}
        folder = None
    else:
        lines += unpacking(sets)
        entries = {
            name: entry_of(file, part) for part in sets for name, file in zip(part.names, part.unpacked, strict=True)
        }
    lines += ["Into `dataset_info.json`, in the folder that its option `dataset_dir` names:", ""]
    lines += [code("json", json.dumps(entries, indent=2, ensure_ascii=False)), "", "Into the training file:", ""]
    media = [f"media_dir: {json.dumps(folder, ensure_ascii=False)}"] if folder else []
    lines += [code("yaml", "\n".join([f"dataset: {','.join(entries)}", *media])), ""]
    lost = out_of_order(sets, "llamafactory")
    kept = total(sets) - lost.total() - (with_calls(sets) if reasons else 0)
    if lost:
        lines += [f"It drops {told_orders(lost)}."]
    lines += [f"It must report {counted(kept, 'example')}: rows that it drops are told in its log alone, and it ends"]
    lines += ["with exit code 0."]
    where = f", media_dir: {json.dumps(folder) if ' ' in folder else folder}" if folder else ""
    first = not reasons and bool(unpacking(sets))
    where += f" ({lost.total():,} of {counted(total(sets), 'row')} are dropped there)" if lost else ""
    short = f"{'unpack the file first; ' if first else ''}dataset_info.json entry in how_to_train.md{where}"
    short = f"`{export.command('messages', 'messages.jsonl')}` first; {short}" if reasons else short
    return Notes("LLaMA-Factory", short, "\n".join(lines))


def _messages(sets: Sequence[TrainingSet], export: Export) -> list[str]:
    """Return the export to message records, with what it leaves out."""
    calls = with_calls(sets)
    told = f"It leaves out {counted(calls, 'row')} with calls of tools beside the text, which would be lost."
    return [code("bash", export.command("messages", "messages.jsonl")), "", *([told, ""] if calls else [])]


def _swift(sets: Sequence[TrainingSet], export: Export) -> Notes:
    reasons = [*unread(sets), *(reason for part in sets for reason in _why_not_swift(part)), *folders(sets)]
    lines, files, folder = [], [file for part in sets for file in part.unpacked], folder_of(sets)
    packed = unpacking(sets)
    if reasons:
        lines += ["It cannot be relied on with the subset as it is: " + "; ".join(reasons) + ". Export it first:", ""]
        lines += _messages(sets, export)
        files, folder, packed = [export.file("messages.jsonl")], None, []
    lines += packed
    root = f"ROOT_IMAGE_DIR={shlex.quote(folder)} " if folder else ""
    command = f"{root}swift sft --model MODEL --dataset {shlex.join(files)} --strict true"
    lines += [code("bash", command), ""]
    lines += [
        "Nothing is put behind the file name: with `#N` it would draw N rows of the subset at random, some of them"
    ]
    lines += ["several times. Without `--strict true` a row that cannot be read is replaced by another one, silently."]
    if folder:
        lines += ["Relative image paths are looked for in the working directory first, then in `ROOT_IMAGE_DIR`."]
    lines += _swift_orders(sets)
    short = f"`{export.command('messages', 'messages.jsonl')}` first; then {command}" if reasons else command
    return Notes(
        "ms-swift", f"first unpack the file, see how_to_train.md; then {command}" if packed else short, "\n".join(lines)
    )


def _swift_orders(sets: Sequence[TrainingSet]) -> list[str]:
    """Return what becomes of rows whose turns are out of order."""
    words = {
        "ends_with_user": "it trains with an open end",
        "starts_with_assistant": "it puts an empty question in front",
        "empty_conversation": "it drops them",
        "roles_not_alternating": "it trains them as they are",
    }
    found = sorted(out_of_order(sets, "ms-swift").items())
    return [f"There are {order_words(kind, rows)}: {words[kind]}." for kind, rows in found]


def _why_not_swift(part: TrainingSet) -> list[str]:
    facts = part.facts
    reasons = []
    if part.container == "arrow":
        reasons.append("it reads no Arrow files")
    if part.format not in _SWIFT_FORMATS:
        reasons.append(f"`{part.source}` has its turns under keys of its own")
    if facts.content_parts:
        reasons.append(f"{counted(facts.content_parts, 'record')} of `{part.source}` with content in parts")
    if facts.image_keys and facts.image_keys[0] not in {"images", "image"}:
        reasons.append(f"`{part.source}` has its images under `{facts.image_keys[0]}`")
    if facts.tool_calls:
        reasons.append(f"{counted(facts.tool_calls, 'record')} of `{part.source}` with calls of tools beside the text")
    return reasons


def _trl(sets: Sequence[TrainingSet], export: Export, *, embed: bool) -> Notes:
    command = export.command("trl", "trl.parquet", *(["--embed-images"] if embed else []))
    file = json.dumps(export.file("trl.parquet"), ensure_ascii=False)
    load = "from datasets import load_dataset\n\n"
    load += f'dataset = load_dataset("parquet", data_files={file}, split="train")'
    calls = with_calls(sets)
    told = f"It leaves out {counted(calls, 'row')} with calls of tools beside the text, which would be lost."
    text = "\n".join(
        [
            "It takes images apart from the text, so the subset must be converted: a `<image>` that is left in a text",
            "is trained on as these seven characters, without a message.",
            "",
            code("bash", command),
            "",
            *([told, ""] if calls else []),
            code("python", load),
        ]
    )
    return Notes("TRL", command, text)

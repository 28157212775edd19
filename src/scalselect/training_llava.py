"""The section of `how_to_train.md` about LLaVA's own trainer, which takes one form alone."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from scalselect.dataset.export_rules import left_out_words
from scalselect.dataset.order_faults import order_words
from scalselect.training_parts import Notes, code, counted, folder_of, folders, out_of_order, total, unpacking, unread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.training_parts import Export
    from scalselect.training_sets import TrainingSet

_ROLES = {"human", "gpt"}
_READ = {"json", "list", "jsonl", "json.gz", "jsonl.gz"}
_LOST = {
    "ends_with_user": "of which it learns nothing",
    "starts_with_assistant": "which it cuts off",
    "roles_not_alternating": "which stop it",
    "empty_conversation": "which stop it",
}


def llava_notes(sets: Sequence[TrainingSet], export: Export) -> Notes:
    """Return what is to be said about LLaVA."""
    reasons = _reasons(sets)
    if reasons:
        lines = ["Its trainer cannot train on the subset: " + "; ".join(reasons) + ". Export it first:", ""]
        lines += _exported(sets, export)
        options = _options(export)
        return Notes("LLaVA", f"`{export.command('llava', 'llava.json')}` first; then {options}", "\n".join(lines))
    file = sets[0].unpacked[0]
    lines = unpacking(sets)
    first = bool(lines) or "jsonl" in sets[0].container
    if "jsonl" in sets[0].container:
        array = file.removesuffix("l").removesuffix(".json") + ".array.json"
        lines += ["It reads JSON arrays alone. This makes one of the lines, changing none:", ""]
        brackets = f"(echo '['; sed '$!s/$/,/' {shlex.quote(file)}; echo ']') > {shlex.quote(array)}"
        lines += [code("bash", brackets), ""]
        file = array
    options = f"--data_path {shlex.quote(file)} --image_folder {shlex.quote(folder_of(sets) or '/')}"
    lines += [code("bash", options), ""]
    refused = _refused(sets[0])
    if refused:
        lines += ["These rows are not trained as they are here, most of them stop it:", ""]
        lines += [
            *(f"- {reason}." for reason in refused),
            "",
            "An export has none of them:",
            "",
            *_exported(sets, export),
        ]
    else:
        lines += ["Every row has what it wants: turns of human and gpt, and one image path or no key for it."]
    short = f"first make the file that how_to_train.md tells of, then {options}" if first else options
    if refused:
        short += f" (some rows stop it: `{export.command('llava', 'llava.json')}` mends them)"
    return Notes("LLaVA", short, "\n".join(lines).rstrip())


def _reasons(sets: Sequence[TrainingSet]) -> list[str]:
    reasons = [f"`{part.source}` is not in LLaVA's format" for part in sets if part.format != "llava"]
    reasons += unread(sets)
    reasons += [f"`{part.source}` has image bytes in the data, not files" for part in sets if part.facts.in_data]
    if not reasons and len(sets[0].files) > 1:
        reasons.append(f"`{sets[0].source}` is kept in {len(sets[0].files)} files, and it reads one")
    if not reasons and len(sets) > 1:
        reasons.append(f"the subset is {sum(len(part.files) for part in sets)} files, and it reads one")
        reasons += folders(sets)
    if not reasons and sets[0].container not in _READ:
        reasons.append("it reads JSON arrays alone")
    return reasons


def _options(export: Export) -> str:
    return f"--data_path {shlex.quote(export.file('llava.json'))} --image_folder /"  # its paths are absolute


def _exported(sets: Sequence[TrainingSet], export: Export) -> list[str]:
    """Return the export, with what it leaves out of these rows, and the options that read it."""
    left_out: Counter[str] = Counter()
    for part in sets:
        left_out.update(part.facts.not_for_llava)
    lost = sum(left_out.values())
    if lost == total(sets):
        return [f"No export helps: it trains on none of {counted(lost, 'record')} ({left_out_words(left_out)})."]
    told = f"leaves out {lost:,} ({left_out_words(left_out)})" if lost else "leaves out none"
    cut = out_of_order(sets, "llava")["starts_with_assistant"]
    rest = f" Of {counted(cut, 'row')} that begin with an answer it cuts that turn off." if cut else ""
    return [
        code("bash", export.command("llava", "llava.json")),
        "",
        f"Of {counted(total(sets), 'record')} it {told}, as the trainer would stop at them or learn nothing.{rest}",
        "",
        code("bash", _options(export)),
    ]


def _refused(part: TrainingSet) -> list[str]:
    """Return which rows LLaVA's trainer stops at, or trains otherwise than they are."""
    facts = part.facts
    refused = []
    if facts.several_images:
        refused.append(f"{counted(facts.several_images, 'row')} with several images, and it reads one")
    if facts.image_lists:
        rows = counted(facts.image_lists, "row")
        refused.append(f"{rows} whose images are a list (of one or none, too); it reads one path")
    if facts.image_nulls:
        rows = counted(facts.image_nulls, "row")
        refused.append(f"{rows} where the key of the image is null; a text-only row must not have it")
    if facts.without_marker:
        rows = counted(facts.without_marker, "row")
        refused.append(f"{rows} without `<image>`: it trains them without their image, silently")
    others = [role for role in facts.roles if role not in _ROLES]
    if others:
        refused.append(f"turns of the roles {', '.join(others)}; it knows human and gpt, and no system turn")
    orders = sorted(facts.order_faults.get("llava", {}).items())
    return [*refused, *(f"{order_words(kind, rows)}, {_LOST[kind]}" for kind, rows in orders)]

"""The words of `how_to_train.md`: what each trainer is given for a subset, and what it would stumble over."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset_info_entry import entry_of, why_not_llamafactory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalselect.training_sets import TrainingSet

_SWIFT_FORMATS = ("llava", "messages", "alpaca", "query-response")
_UNKNOWN_FOLDER = "IMAGE_FOLDER"
_LLAVA_ROLES = {"human", "gpt"}
_UNREAD = {"tar": "tar archives", "saved": "folders that `save_to_disk` wrote"}


@dataclass(frozen=True, slots=True)
class Notes:
    """What is to be said about one trainer.

    Attributes
    ----------
    trainer
        Its name.
    short
        One line for the summary of a command.
    text
        The section of `how_to_train.md`, Markdown without its title.
    """

    trainer: str
    short: str
    text: str


def notes_of(sets: Sequence[TrainingSet], run_dir: str, budget: str | None = None) -> list[Notes]:
    """Return the notes for every trainer.

    Parameters
    ----------
    sets
        The parts of the subset, one for each data set.
    run_dir
        The run folder, for commands.
    budget
        The budget that the subset belongs to, where it is not the run's first.
    """
    writers: tuple[Callable[[Sequence[TrainingSet], _Export], Notes], ...] = (_llamafactory, _swift, _llava, _trl)
    return [write(sets, _Export(run_dir, budget)) for write in writers]


def document(notes: Sequence[Notes], sets: Sequence[TrainingSet], like: str) -> str:
    """Return the whole of `how_to_train.md`; `like` says how the pool was seen."""
    files = "\n".join(
        f"- {part.facts.rows:,} records of `{part.source}`{_text_only_words(part)}: "
        + ", ".join(f"`{file}`" for file in part.files)
        for part in sets
    )
    remote = sorted({place for part in sets for place in (*part.files[:1], part.images) if place and "://" in place})
    if remote:
        told = " and ".join(f"`{place}`" for place in remote)
        files += f"\n\nThese trainers read local disks: copy {told} to one first, and put its place there below."
    if any(part.facts.relative and not part.images for part in sets):
        files += (
            f"\n\n`{_UNKNOWN_FOLDER}` stands for the folder that image paths start from, which the run does not know."
        )
    sections = "\n\n".join(f"## {note.trainer}\n\n{note.text}" for note in notes)
    return f"# How to train with this subset\n\n{files}\n\n{like}\n\n{_check_words(sets)}\n\n{sections}\n"


def _check_words(sets: Sequence[TrainingSet]) -> str:
    """Return how to ask which rows a trainer would drop or stop at."""
    folder = _folder(sets)
    images = ["--images", folder] if folder and len({part.images for part in sets}) == 1 else []
    command = shlex.join(["scalselect", "check", *(file for part in sets for file in part.files), *images, "--like"])
    return (
        f"`{command} llamafactory`, or with another of llava, ms-swift and trl, names the rows that this trainer would "
        "drop, replace or stop at."
    )


def _text_only_words(part: TrainingSet) -> str:
    return f", {part.facts.text_only:,} of them text-only" if part.facts.text_only else ""


@dataclass(frozen=True, slots=True)
class _Export:
    """Names the command that makes other files of the subset, and those files."""

    run_dir: str
    budget: str | None

    def command(self, to: str, *options: str) -> str:
        budget = ["--budget", self.budget] if self.budget else []
        return shlex.join(["scalselect", "export", self.run_dir, "--to", to, *budget, *options])

    def file(self, name: str) -> str:
        folder = f"exported/{self.budget}" if self.budget else "exported"
        return f"{self.run_dir}/{folder}/{name}"


def _llamafactory(sets: Sequence[TrainingSet], export: _Export) -> Notes:
    reasons = [*_unread(sets), *(reason for part in sets for reason in why_not_llamafactory(part)), *_folders(sets)]
    lines = []
    folder = _folder(sets)
    if reasons:
        lines += ["It cannot train on the subset as it is: " + "; ".join(reasons) + ".", "Export it first:", ""]
        lines += [_code("bash", export.command("messages")), ""]
        entries = {"chosen": entry_of(export.file("messages.jsonl"))}
        folder = None
    else:
        lines += _unpacking(sets)
        entries = {
            name: entry_of(file, part) for part in sets for name, file in zip(part.names, part.unpacked, strict=True)
        }
    lines += ["Into `dataset_info.json`, in the folder that its option `dataset_dir` names:", ""]
    lines += [_code("json", json.dumps(entries, indent=2, ensure_ascii=False)), "", "Into the training file:", ""]
    media = [f"media_dir: {json.dumps(folder, ensure_ascii=False)}"] if folder else []
    lines += [_code("yaml", "\n".join([f"dataset: {','.join(entries)}", *media])), ""]
    lines += ["Compare the number of examples it reports with the number above: rows that it drops are told in its log"]
    lines += ["alone, and it ends with exit code 0."]
    where = f", media_dir: {folder}" if folder else ""
    short = f"dataset_info.json entry in how_to_train.md{where}"
    return Notes(
        "LLaMA-Factory", f"`{export.command('messages')}` first; {short}" if reasons else short, "\n".join(lines)
    )


def _swift(sets: Sequence[TrainingSet], export: _Export) -> Notes:
    reasons = [*_unread(sets), *(reason for part in sets for reason in _why_not_swift(part)), *_folders(sets)]
    lines, files, folder = [], [file for part in sets for file in part.unpacked], _folder(sets)
    if reasons:
        lines += ["It cannot be relied on with the subset as it is: " + "; ".join(reasons) + ". Export it first:", ""]
        lines += [_code("bash", export.command("messages")), ""]
        files, folder = [export.file("messages.jsonl")], None
    else:
        lines += _unpacking(sets)
    root = f"ROOT_IMAGE_DIR={shlex.quote(folder)} " if folder else ""
    command = f"{root}swift sft --model MODEL --dataset {shlex.join(files)} --strict true"
    lines += [_code("bash", command), ""]
    lines += [
        "Nothing is put behind the file name: with `#N` it would draw N rows of the subset at random, some of them"
    ]
    lines += ["several times. Without `--strict true` a row that cannot be read is replaced by another one, silently."]
    if folder:
        lines += ["Relative image paths are looked for in the working directory first, then in `ROOT_IMAGE_DIR`."]
    short = f"`{export.command('messages')}` first; then {command}" if reasons else command
    return Notes("ms-swift", short, "\n".join(lines))


def _why_not_swift(part: TrainingSet) -> list[str]:
    facts = part.facts
    reasons = []
    if part.container == "arrow":
        reasons.append("it reads no Arrow files")
    if part.format not in _SWIFT_FORMATS:
        reasons.append(f"`{part.source}` has its turns under keys of its own")
    if facts.content_parts:
        reasons.append(f"{facts.content_parts:,} records of `{part.source}` have content in parts")
    if facts.image_keys and facts.image_keys[0] not in {"images", "image"}:
        reasons.append(f"`{part.source}` has its images under `{facts.image_keys[0]}`")
    return reasons


def _llava(sets: Sequence[TrainingSet], export: _Export) -> Notes:
    reasons = [f"`{part.source}` is not in LLaVA's format" for part in sets if part.format != "llava"]
    reasons += _unread(sets)
    reasons += [f"`{part.source}` has image bytes in the data, not files" for part in sets if part.facts.in_data]
    if not reasons and len(sets[0].files) > 1:
        reasons.append(f"`{sets[0].source}` is kept in {len(sets[0].files)} files, and it reads one")
    if not reasons and len(sets) > 1:
        reasons.append(f"the subset is {len(sets)} files, and it reads one")
    if not reasons and sets[0].container not in {"json", "list", "jsonl", "json.gz", "jsonl.gz"}:
        reasons.append("it reads JSON arrays alone")
    folder = _folder(sets)
    if reasons:
        lines = ["Its trainer cannot train on the subset: " + "; ".join(reasons) + ". Export it first:", ""]
        lines += [_code("bash", export.command("llava")), ""]
        lines += [
            "Rows with several images or with a system turn are left out and counted, as it would stop at them.",
            "",
        ]
        options = f"--data_path {shlex.quote(export.file('llava.json'))} --image_folder /"  # its paths are absolute
        lines += [_code("bash", options)]
        return Notes("LLaVA", f"`{export.command('llava')}` first; then {options}", "\n".join(lines))
    file = sets[0].unpacked[0]
    lines = _unpacking(sets)
    if "jsonl" in sets[0].container:
        array = file.removesuffix("l").removesuffix(".json") + ".array.json"
        lines += ["It reads JSON arrays alone. This makes one of the lines, changing none:", ""]
        brackets = f"(echo '['; sed '$!s/$/,/' {shlex.quote(file)}; echo ']') > {shlex.quote(array)}"
        lines += [_code("bash", brackets), ""]
        file = array
    options = f"--data_path {shlex.quote(file)} --image_folder {shlex.quote(folder or '/')}"
    lines += [_code("bash", options), ""]
    lines += _llava_refuses(sets[0])
    return Notes("LLaVA", options, "\n".join(lines).rstrip())


def _llava_refuses(part: TrainingSet) -> list[str]:
    """Return which rows LLaVA's trainer stops at."""
    facts = part.facts
    refused = []
    if facts.several_images:
        refused.append(f"{facts.several_images:,} rows have several images, and it reads one")
    if facts.image_lists:
        refused.append(f"in {facts.image_lists:,} rows the images are a list (of one or none, too); it reads one path")
    if facts.image_nulls:
        refused.append(f"in {facts.image_nulls:,} rows the key of the image is null; a text-only row must not have it")
    if facts.without_marker:
        refused.append(f"{facts.without_marker:,} rows have no `<image>`: it trains them without their image, silently")
    others = [role for role in facts.roles if role not in _LLAVA_ROLES]
    if others:
        refused.append(f"some turns have the roles {', '.join(others)}; it knows human and gpt, and no system turn")
    if not refused:
        return ["Every row has what it wants: turns of human and gpt, and one image path or no key for it."]
    return [
        "These rows are not trained as they are here, most of them stop it:",
        "",
        *(f"- {reason}." for reason in refused),
    ]


def _trl(sets: Sequence[TrainingSet], export: _Export) -> Notes:
    del sets
    command = export.command("trl")
    file = json.dumps(export.file("trl.parquet"), ensure_ascii=False)
    load = "from datasets import load_dataset\n\n"
    load += f'dataset = load_dataset("parquet", data_files={file}, split="train")'
    text = "\n".join(
        [
            "It takes images apart from the text, so the subset must be converted: a `<image>` that is left in a text",
            "is trained on as these seven characters, without a message.",
            "",
            _code("bash", command),
            "",
            _code("python", load),
        ]
    )
    return Notes("TRL", command, text)


def _unread(sets: Sequence[TrainingSet]) -> list[str]:
    """Return which parts lie in a container that only Hugging Face datasets and webdataset read."""
    return [f"it reads no {_UNREAD[part.container]}" for part in sets if part.container in _UNREAD]


def _folders(sets: Sequence[TrainingSet]) -> list[str]:
    folders = {part.images for part in sets if part.facts.relative}
    return [f"image paths are relative to {len(folders)} folders, and it takes one"] if len(folders) > 1 else []


def _folder(sets: Sequence[TrainingSet]) -> str | None:
    """Return the folder that image paths are relative to; None where none is."""
    return next((part.images or _UNKNOWN_FOLDER for part in sets if part.facts.relative), None)


def _unpacking(sets: Sequence[TrainingSet]) -> list[str]:
    packed = [file for part in sets for file in part.files if file.endswith(".gz")]
    return (
        ["It reads no .gz files:", "", _code("bash", shlex.join(["gunzip", "--keep", *packed])), ""] if packed else []
    )


def _code(language: str, text: Any) -> str:
    return f"```{language}\n{text}\n```"

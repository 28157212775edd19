"""The consumers: what each is given, how, and what it must make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from integrations.expected import as_llamafactory, as_recorded, as_swift, as_trl
from integrations.trl_files import write_faulty_trl, write_trl

if TYPE_CHECKING:
    from pathlib import Path

    from integrations.expected import Expected
    from integrations.subsets import Subset

IMAGE_TOKENS = 64  # of the demo's checkpoint, for each picture


@dataclass(frozen=True)
class Case:
    """One file for one consumer.

    Attributes
    ----------
    name
        What the file is.
    entry
        What the consumer's script is told.
    rows
        What it must report.
    fault, sign
        The one known fault of the file, and a pattern of the difference it must make; None for a subset as it was
        written.
    image_tokens
        How often a rendered text repeats the marker of a picture.
    trained
        Whether the consumer trains.
    """

    name: str
    entry: dict[str, Any]
    rows: list[Expected]
    fault: str | None = None
    sign: str | None = None
    image_tokens: int = IMAGE_TOKENS
    trained: bool = True


@dataclass(frozen=True)
class Consumer:
    """One package that reads our subsets, with what it is given.

    Attributes
    ----------
    title
        Its name for people.
    environment
        Name of its environment, see `environments.py`.
    script
        Name of its script in `consumers/`.
    cases
        Its files.
    """

    title: str
    environment: str
    script: str
    cases: list[Case]


def consumers(subsets: dict[str, Subset], model: Path, work: Path) -> list[Consumer]:
    """Return all consumers with their cases.

    Parameters
    ----------
    subsets
        What runs chose, by the name of the pool: `llava` and `messages`.
    model
        The checkpoint that is trained.
    work
        Where files with faults and what the trainers write go; it must exist.
    """
    readers = (("4.0.0", "llamafactory"), ("4.8.4", "swift"), ("5.2.0", "trl"))
    return [
        Consumer("LLaMA-Factory", "llamafactory", "llamafactory_consumer.py", _llamafactory(subsets, model, work)),
        Consumer("ms-swift", "swift", "swift_consumer.py", _swift(subsets, model, work)),
        Consumer("TRL", "trl", "trl_consumer.py", _trl(subsets, model, work)),
        *(
            Consumer(f"datasets {version}", environment, "datasets_consumer.py", _datasets(subsets, work))
            for version, environment in readers
        ),
    ]


def _llamafactory(subsets: dict[str, Subset], model: Path, work: Path) -> list[Case]:
    faulty = subsets["llava"].with_fault("no answer", work)
    cases = []
    for name, subset, fault in (*_clean(subsets), ("llava", faulty, "no answer")):
        folder = work / f"llamafactory-{len(cases)}"
        registered: dict[str, Any] = {"file_name": str(subset.path), "formatting": "sharegpt"}
        if name == "llava":
            registered |= {"columns": {"messages": "conversations", "images": "image"}}
        else:
            tags = {"role_tag": "role", "content_tag": "content"}
            tags |= {f"{role}_tag": role for role in ("user", "assistant", "system")}
            registered |= {"columns": {"messages": "messages", "images": "images"}, "tags": tags}
        entry = {
            "model": str(model),
            "folder": str(folder),
            "dataset_info": {"chosen": registered},
            "options": {"media_dir": str(subset.images)},
        }
        sign = fault and f"^rows_kept is {len(subset.records) - 1},"
        cases.append(Case(name, entry, subset.expected(as_llamafactory), fault, sign))
    return cases


def _swift(subsets: dict[str, Subset], model: Path, work: Path) -> list[Case]:
    faulty = subsets["messages"].with_fault("missing picture", work)
    cases = []
    for name, subset, fault in (*_clean(subsets), ("messages", faulty, "missing picture")):
        entry = {
            "model": str(model),
            "folder": str(work / f"swift-{len(cases)}"),
            "flags": {"dataset": str(subset.path), "strict": "false" if fault else "true"},
            "variables": {"ROOT_IMAGE_DIR": str(subset.images)},
        }
        cases.append(Case(name, entry, subset.expected(as_swift), fault, fault and r"^images of row \d+: "))
    return cases


def _trl(subsets: dict[str, Subset], model: Path, work: Path) -> list[Case]:
    files: list[tuple[str, Subset, Path, str | None, str | None]] = []
    for name, subset, _ in _clean(subsets):
        files.append((name, subset, write_trl(subset, work / f"trl-{name}.parquet"), None, None))
    name, subset, path, _, _ = files[-1]
    for fault, sign in (("marker in the text", "^it failed: ValueError"), ("another picture", "^images of row 1: ")):
        target = work / f"trl-{fault.replace(' ', '-')}.parquet"
        files.append((name, subset, write_faulty_trl(path, fault, target), fault, sign))
    cases = []
    for name, subset, path, fault, sign in files:
        folder = work / f"trl-{len(cases)}"
        entry = {"model": str(model), "folder": str(folder), "file": str(path), "loader": "parquet"}
        cases.append(Case(name, entry, subset.expected(as_trl), fault, sign))
    return cases


def _datasets(subsets: dict[str, Subset], work: Path) -> list[Case]:
    faulty = subsets["messages"].with_fault("mixed ids", work)
    cases = []
    for name, subset, fault in (*_clean(subsets), ("messages", faulty, "mixed ids")):
        entry = {"file": str(subset.path), "loader": "json", "pictures_inside": False}
        sign = fault and "^it failed: DatasetGenerationError|^id of row 1: "
        rows = subset.expected(as_recorded)
        cases.append(Case(name, entry, rows, fault, sign, image_tokens=1, trained=False))
    return cases


def _clean(subsets: dict[str, Subset]) -> list[tuple[str, Subset, None]]:
    return [(name, subsets[name], None) for name in ("llava", "messages")]

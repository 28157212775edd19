"""The consumers: what each is given, how, and what it must make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from integrations.container_faults import exported_file, write_faulty_trl, write_members_apart
from integrations.expected import as_llamafactory, as_recorded, as_swift, as_trl

if TYPE_CHECKING:
    from pathlib import Path

    from integrations.expected import Expected
    from integrations.guide import Guide
    from integrations.subsets import Subset

GIVEN = {  # trainer, as `how_to_train.md` names it: the pools whose subsets it is given
    "LLaMA-Factory": ("llava", "messages", "parquet", "tar"),
    "ms-swift": ("llava", "messages", "parquet", "saved"),
    "TRL": ("llava", "messages", "parquet"),
}
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


@dataclass(frozen=True)
class Chosen:
    """What a run chose, and what its `how_to_train.md` says."""

    subset: Subset
    guide: Guide


def consumers(chosen: dict[str, Chosen], model: Path, work: Path) -> list[Consumer]:
    """Return all consumers with their cases.

    Parameters
    ----------
    chosen
        By the name of the pool, see `material.py`.
    model
        The checkpoint that is trained.
    work
        Where files with faults and what the trainers write go; it must exist.
    """
    readers = (("4.0.0", "llamafactory"), ("4.8.4", "swift"), ("5.2.0", "trl"))
    return [
        Consumer("LLaMA-Factory", "llamafactory", "llamafactory_consumer.py", _llamafactory(chosen, model, work)),
        Consumer("ms-swift", "swift", "swift_consumer.py", _swift(chosen, model, work)),
        Consumer("TRL", "trl", "trl_consumer.py", _trl(chosen, model, work)),
        *(
            Consumer(f"datasets {version}", environment, "datasets_consumer.py", _datasets(chosen, work))
            for version, environment in readers
        ),
        Consumer("webdataset", "trl", "webdataset_consumer.py", _webdataset(chosen, work)),
    ]


def _llamafactory(chosen: dict[str, Chosen], model: Path, work: Path) -> list[Case]:
    cases = []
    for name, fault in (*_clean(*GIVEN["LLaMA-Factory"]), ("llava", "no answer")):
        subset = chosen[name].subset.with_fault(fault, work) if fault else chosen[name].subset
        info, options = chosen[name].guide.llamafactory()
        if fault:
            info["chosen"]["file_name"] = str(subset.path)
        folder = work / f"llamafactory-{len(cases)}"
        entry = {"model": str(model), "folder": str(folder), "dataset_info": info, "options": options}
        sign = fault and f"^rows_kept is {len(subset.records) - 1},"
        cases.append(Case(name, entry, subset.expected(as_llamafactory), fault, sign))
    return cases


def _swift(chosen: dict[str, Chosen], model: Path, work: Path) -> list[Case]:
    cases = []
    for name, fault in (*_clean(*GIVEN["ms-swift"]), ("messages", "missing picture")):
        subset = chosen[name].subset.with_fault(fault, work) if fault else chosen[name].subset
        flags, variables = chosen[name].guide.swift()
        if fault:  # which passes silently only without `--strict true`
            flags |= {"dataset": str(subset.path), "strict": "false"}
        entry = {"model": str(model), "folder": str(work / f"swift-{len(cases)}"), "flags": flags}
        sign = fault and r"^images of row \d+: "
        cases.append(Case(name, {**entry, "variables": variables}, subset.expected(as_swift), fault, sign))
    return cases


def _trl(chosen: dict[str, Chosen], model: Path, work: Path) -> list[Case]:
    cases = []
    faults = {"marker in the text": "^it failed: ValueError", "another picture": "^images of row 1: "}
    for name, fault in (*_clean(*GIVEN["TRL"]), *(("messages", fault) for fault in faults)):
        subset, code = chosen[name].subset, chosen[name].guide.trl()
        if fault:
            exported = exported_file(code)
            faulty = write_faulty_trl(exported, fault, work / f"trl-{fault.replace(' ', '-')}.parquet")
            code = code.replace(str(exported), str(faulty))
        entry = {"model": str(model), "folder": str(work / f"trl-{len(cases)}"), "code": code}
        cases.append(Case(name, entry, subset.expected(as_trl), fault, faults[fault] if fault else None))
    return cases


def _datasets(chosen: dict[str, Chosen], work: Path) -> list[Case]:
    cases = []
    loaders = {"llava": "json", "messages": "json", "parquet": "parquet", "saved": "saved"}
    for name, fault in (*_clean(*loaders), ("messages", "mixed ids")):
        subset = chosen[name].subset.with_fault(fault, work) if fault else chosen[name].subset
        loader = loaders[name]
        entry = {"file": str(subset.path), "loader": loader, "pictures_inside": loader != "json"}
        sign = fault and "^it failed: DatasetGenerationError|^id of row 1: "
        rows = subset.expected(as_recorded)
        cases.append(Case(name, entry, rows, fault, sign, image_tokens=1, trained=False))
    return cases


def _webdataset(chosen: dict[str, Chosen], work: Path) -> list[Case]:
    subset = chosen["tar"].subset
    rows = subset.expected(as_recorded)
    apart = write_members_apart(subset.path, work / "members-apart.tar")
    sign = f"^rows_kept is {len(rows) + 1},"
    return [
        Case("tar", {"files": [str(path)]}, rows, fault, fault and sign, image_tokens=1, trained=False)
        for path, fault in ((subset.path, None), (apart, "members apart"))
    ]


def _clean(*names: str) -> tuple[tuple[str, None], ...]:
    return tuple((name, None) for name in names)

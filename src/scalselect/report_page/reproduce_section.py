"""How to reproduce the run and how to train with it: commands, versions, fingerprints, and the guide of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from scalselect.report_page.guide_blocks import guide_blocks
from scalselect.report_page.page import Section
from scalselect.report_page.run_command import commands_of
from scalselect.segments import segments_of

if TYPE_CHECKING:
    from scalselect.report_page.material import Material

_MODEL_HASHES = ("model_config", "model_processor", "model_chat_template", "model_weights", "model_code")


def reproduce_section(material: Material) -> Section:
    """Return the last section of the page."""
    run = material.run
    scored, skipped = (
        pc.sum(pc.equal(material.table["status"], status)).as_py() or 0 for status in ("scored", "skipped")
    )
    percent = 100 * skipped / max(1, scored + skipped)
    commands = commands_of(run, material.folder.path, material.selection, skipped_percent=percent)
    return Section(
        name="reproduce",
        title="Reproduce and train",
        content={
            "commands": commands.lines,
            "notes": commands.notes,
            "versions": sorted((run.get("versions") or {}).items()),
            "fingerprints": _fingerprints(material),
            "guide": _guide(material),
            "folder": str(material.folder.path),
        },
    )


def _fingerprints(material: Material) -> list[tuple[str, str]]:
    represent = material.run["represent"]
    several = "representations" not in represent and len(segments_of(material.run)) > 1
    found = (
        [(f"data: {segment.source}", segment.data_sha256) for segment in segments_of(material.run)]
        if several
        else [("data", represent.get("data_sha256"))]
    )
    found += [(name.replace("_", " "), represent.get(name)) for name in _MODEL_HASHES]
    commit = material.run.get("model_commit")
    found += [("model commit", commit)]
    if material.selection is not None:
        found += [("representations", material.selection["inputs"]["store"])]
        found += sorted(material.selection["files"].items())
    return [(name, str(value)) for name, value in found if value is not None]


def _guide(material: Material) -> list[dict[str, Any]]:
    """Return `how_to_train.md` as blocks; none where the run has no such file."""
    try:
        return guide_blocks(material.folder.guide.read_bytes().decode("utf-8", errors="replace"))
    except FileNotFoundError:
        return []

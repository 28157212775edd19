"""What an export wrote, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from scalselect.dataset.export_rules import left_out_words
from scalselect.summary import Summary, path_words

if TYPE_CHECKING:
    from scalselect.results import Exported


def summary_of_export(exported: Exported) -> Summary:
    """Summarise an export."""
    told = left_out_words(exported.left_out)
    unit = "record" if exported.records == 1 else "records"
    copied = f", {exported.images:,} {'image' if exported.images == 1 else 'images'} copied" if exported.images else ""
    lines = [
        ("exported", f"{exported.records:,} {unit}{copied}"),
        *([("left out", told)] if told else []),
        *(("written" if i == 0 else "", path_words(file)) for i, file in enumerate(exported.files)),
    ]
    return Summary(lines, {**asdict(exported), "files": [str(file) for file in exported.files]})

"""What an export wrote, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from scalselect.summary import Summary, path_words

if TYPE_CHECKING:
    from scalselect.results import Exported

_WORDS = {
    "several_images": "with several images",
    "system_turn": "with a system turn",
    "tool_turn": "with a turn of a tool",
}


def summary_of_export(exported: Exported) -> Summary:
    """Summarise an export."""
    told = [f"{rows:,} {_WORDS.get(reason, reason)}" for reason, rows in sorted(exported.left_out.items())]
    unit = "record" if exported.records == 1 else "records"
    copied = f", {exported.images:,} images copied" if exported.images else ""
    lines = [
        ("exported", f"{exported.records:,} {unit}{copied}"),
        *([("left out", f"{', '.join(told)}: the trainer stops at them")] if told else []),
        *(("written" if i == 0 else "", path_words(file)) for i, file in enumerate(exported.files)),
    ]
    return Summary(lines, {**asdict(exported), "files": [str(file) for file in exported.files]})

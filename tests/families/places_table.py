"""The table of docs/report.md: for which families it is known which part of a picture each vision token shows.

`python tests/families/places_table.py` puts it into the page.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from scalselect.vlm.refusals import TESTED_FAMILIES
from scalselect.vlm.token_boxes import LAYOUTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "report.md"
START, END = "<!-- table of known places: start -->", "<!-- table of known places: end -->"


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| `model_type` | what its tokens show |", "|---|---|"]
    for layout in dict.fromkeys(LAYOUTS.values()):
        families = ", ".join(f"`{name}`" for name in sorted(LAYOUTS) if LAYOUTS[name] is layout)
        told = inspect.getdoc(layout).splitlines()[0].removeprefix("Place ").rstrip(".")
        lines.append(f"| {families} | {told} |")
    unknown = ", ".join(f"`{name}`" for name in sorted(set(TESTED_FAMILIES) - set(LAYOUTS)))
    lines.append(f"| {unknown}, and all untested ones | not known: no overlay |")
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """Return the page with the table between its two marks replaced."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""`how_to_train.md` cut into blocks that a template shows: headings, lists, paragraphs and code. No HTML in between."""

from __future__ import annotations

from typing import Any

_FENCE = "```"


def guide_blocks(text: str) -> list[dict[str, Any]]:
    """Return the blocks of a Markdown text as `how_to_train.md` is written.

    Parameters
    ----------
    text
        Headings, paragraphs, lists of `- `, fenced code, and code within backquotes; its first heading is left out,
        for the page has one.

    Returns
    -------
    list
        Of each block its `kind` (`heading`, `list`, `paragraph` or `code`) and its `text`; of a list its `items`.
    """
    blocks: list[dict[str, Any]] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(_FENCE):
            stop = next((i for i in range(at + 1, len(lines)) if lines[i].startswith(_FENCE)), len(lines))
            blocks.append({"kind": "code", "text": "\n".join(lines[at + 1 : stop])})
            at = stop + 1
            continue
        stop = at + 1
        if line.startswith("#"):
            blocks.append({"kind": "heading", "text": line.lstrip("#").strip()})
        elif line.startswith("- "):
            while stop < len(lines) and lines[stop].startswith(("- ", "  ")):
                stop += 1
            blocks.append({"kind": "list", "items": _items(lines[at:stop])})
        elif line.strip():
            while stop < len(lines) and lines[stop].strip() and not lines[stop].startswith((_FENCE, "#", "- ")):
                stop += 1
            blocks.append({"kind": "paragraph", "text": " ".join(map(str.strip, lines[at:stop]))})
        at = stop
    return blocks[1:] if blocks and blocks[0]["kind"] == "heading" else blocks


def _items(lines: list[str]) -> list[str]:
    """Return the items of a list, each with the lines that continue it."""
    found: list[str] = []
    for line in lines:
        if line.startswith("- "):
            found.append(line[2:].strip())
        else:
            found[-1] += f" {line.strip()}"
    return found

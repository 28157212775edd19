"""The table of docs/families.md: every family of transformers' image-text-to-text mapping, and its class.

`python tests/families/table.py` puts it into the page.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from scalselect.errors import ModelError
from scalselect.vlm.refusals import TESTED_FAMILIES, refuse_unsupported

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
START, END = "<!-- table of all families: start -->", "<!-- table of all families: end -->"


def classify(family: str) -> tuple[str, str]:
    """Return the class of a family under its default configuration, and the cause of a refusal."""
    tested = family in TESTED_FAMILIES
    try:
        refuse_unsupported(CONFIG_MAPPING[family]())
    except ModelError as error:  # a tested one: in a later layer
        return "tested" if tested else "refused", str(error).split(" is not supported: ", 1)[1]
    except (TypeError, ValueError) as error:  # no default configuration, as vision-encoder-decoder has none
        return "untested", f"no default configuration to judge ({type(error).__name__})"
    return "tested" if tested else "untested", ""


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| `model_type` | class | cause |", "|---|---|---|"]
    for family in sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        kind, cause = classify(family)
        rows.append(f"| `{family}` | {kind} | {cause} |".replace("|  |", "| |"))
    return "\n".join(rows)


def page_with_table(page: str) -> str:
    """Return the page with the table between its two marks replaced."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

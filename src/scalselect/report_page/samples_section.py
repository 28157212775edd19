"""The samples of the page: what rows at the ends and at the cut of the choice look like, and where attention lies."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.printable import printable_line
from scalselect.report_page.attention_grids import attention_grids, attention_words
from scalselect.report_page.material import RECORD
from scalselect.report_page.number_words import counted
from scalselect.report_page.page import Section
from scalselect.report_page.reason_words import reason_words
from scalselect.report_page.row_details import row_details
from scalselect.report_page.row_fates import has_scores
from scalselect.report_page.shown_rows import passed_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.explanations_file import Explanation
    from scalselect.report_page.material import Material, ShownPicture, ShownSample

TITLES = {
    "highest": "Highest scores",
    "just_in": "Just in: the last ones chosen",
    "just_out": "Just out: the first ones not chosen",
    "lowest": "Lowest scores",
    "skipped": "Skipped: no score",
}
_NOT_SCORED = "Some rows: represented, not scored yet"
_WITHOUT_A_CUT = {"just_in": "Chosen, lowest scores", "just_out": "Not chosen, highest scores"}
_LONGEST_ID = 200
_LONGEST_CELL = 160  # characters of an instruction in the table
_NO_EXPLANATIONS = "attention was not recorded for this run"
_NO_PICTURE = "there is no picture to lay it over"
_NOT_LOOKED_AT = "attention was recorded for some of the shown rows only"


def samples_section(material: Material) -> Section:
    """Return the section `samples`: a card for each shown row, and a table of them all."""
    pictures = _Pictures()
    cards = _cards(material, pictures)
    over = passed_over(material.table)
    explained = sum("overlay" in card for card in cards)
    sources = list(dict.fromkeys(card["source"] for card in cards))
    scored = has_scores(material.table)
    titles = {**TITLES, **({} if scored else {"highest": _NOT_SCORED}), **(_WITHOUT_A_CUT if over else {})}
    content = {
        "scored": scored,
        "cards": [{**card, "instruction": _instruction(card, _LONGEST_CELL)} for card in cards],
        "groups": [
            {"name": name, "title": titles[name], "count": len(rows)}
            for name, rows in material.shown.items()
            if len(rows)
        ],
        "titles": titles,
        "no_cut": _words_of_no_cut(over) if over else None,
        "sources": sorted(sources) if len(sources) > 1 else [],
        "explained": explained,
        "no_samples": material.no_samples,
        "no_overlays": None if explained else _why_none(material),
    }
    data = {"cards": cards, "pictures": pictures.encoded}
    return Section(name="samples", title="Samples", content=content, data=data)


class _Pictures:
    """Thumbnails by number; samples that show the same picture share one."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, thumbnail: bytes) -> int:
        if thumbnail not in self._numbers:
            self._numbers[thumbnail] = len(self.encoded)
            self.encoded.append(base64.b64encode(thumbnail).decode())
        return self._numbers[thumbnail]


def _cards(material: Material, pictures: _Pictures) -> list[dict[str, Any]]:
    groups = {int(row): name for name, rows in material.shown.items() for row in rows}
    order = list(groups)
    lines = material.table.take(np.array(order, dtype=np.int64)).to_pylist()
    skipped = [line["row"] for line in lines if line["status"] == "skipped"]
    details = row_details(material, skipped)
    return [
        {
            **_facts(line, groups[row], details.get(row)),
            **_seen(material.samples.get(row), pictures),
            **_attention(material, line),
        }
        for row, line in zip(order, lines, strict=True)
    ]


def _facts(line: Mapping[str, Any], group: str, detail: str | None) -> dict[str, Any]:
    """Return what `scores.parquet` says of a row, and what the run wrote down about one that was skipped."""
    return {
        "row": line["row"],
        "group": group,
        "status": line["status"],
        "id": None if line["id"] is None else printable_line(line["id"][:_LONGEST_ID]),
        "source": printable_line(line["source"][:_LONGEST_ID]),
        "score": line["leverage_score"],
        "rank": line["rank"],
        "chosen": line["selected"],
        "reason": None if line["reason"] is None else reason_words(line["reason"]),
        "detail": detail,
        "stratum": None if line["stratum"] is None else printable_line(line["stratum"][:_LONGEST_ID]),
    }


def _seen(sample: ShownSample | None, pictures: _Pictures) -> dict[str, Any]:
    if sample is None:
        return {"turns": [], "pictures": [], "more": 0, "fault": None}
    return {
        "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
        "pictures": [_picture(picture, pictures) for picture in sample.pictures],
        "more": sample.more_pictures,
        "fault": sample.fault,
    }


def _picture(picture: ShownPicture, pictures: _Pictures) -> dict[str, Any]:
    if picture.thumbnail is None:
        return {"name": picture.name, "fault": picture.fault}
    number = pictures.number(picture.thumbnail)
    return {"name": picture.name, "picture": number, "width": picture.width, "height": picture.height}


def _attention(material: Material, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overlay of a row, or why there is none; nothing of a row without a score."""
    if line["status"] != "scored":
        return {}
    explanations, row = material.explanations, line["row"]
    if explanations is None:
        return {"no_overlay": _NO_EXPLANATIONS}
    explanation = explanations.rows.get(row)
    if explanation is None:
        return {"no_overlay": printable_line(explanations.missing.get(row, _NOT_LOOKED_AT))}
    words = {"attention": attention_words(explanation)}
    sample = material.samples.get(row)
    if sample is None or not any(picture.thumbnail for picture in sample.pictures):
        return {**words, "no_overlay": _NO_PICTURE}
    overlay = _overlay(explanation, len(sample.pictures))
    if overlay:
        return {**words, "overlay": overlay}
    why = explanations.boxes_unknown or "which parts of the picture its tokens show is not known"
    return {**words, "no_overlay": printable_line(why)}


def _overlay(explanation: Explanation, pictures: int) -> list[dict[str, Any]]:
    grids = attention_grids(explanation, pictures)
    highest = max((float(grid.mass.max()) for grid in grids), default=0.0) or 1.0
    return [
        {
            "image": grid.image,
            "area": [round(side, 4) for side in grid.area],
            "across": grid.mass.shape[1],
            "whole": grid.seen == 1.0,
            # Relative to the highest of all pictures of the row, so that they can be compared.
            "mass": _base64(np.round(grid.mass * (255 / highest)).astype(np.uint8).tobytes()),
            "kept": _base64(np.packbits(grid.kept).tobytes()),
        }
        for grid in grids
    ]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _instruction(card: Mapping[str, Any], longest: int) -> str:
    """Return the first words of the user, or of a record that has none; where there are no words, why."""
    text = next((turn["text"] for turn in card["turns"] if turn["role"] in ("user", RECORD)), card["fault"] or "")
    return text if len(text) <= longest else f"{text[:longest].rstrip()} ..."


def _words_of_no_cut(over: int) -> str:
    rows = f"{counted(over, 'row')} {'was' if over == 1 else 'were'}"
    return (
        f"The choice was not made by score alone: {rows} passed over for others that scored lower, so there is no cut. "
        "Each row stands in one group, first of all among the highest or the lowest scores."
    )


def _why_none(material: Material) -> str | None:
    if material.explanations is None:
        return _NO_EXPLANATIONS
    return material.explanations.boxes_unknown

"""A row that one of two runs alone chose, as a person looks at it: its place in both, picture and conversation."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from scalselect.printable import printable, printable_line
from scalselect.report_page.reason_words import reason_words

if TYPE_CHECKING:
    from scalselect.report_page.comparison_material import RowInBoth
    from scalselect.report_page.material import ShownPicture, ShownSample

_SHORT = 220
_ALTERNATIVE = 100
_MARK = re.compile(r"\[image \d+\]")
_PICTURES = 2


def card(row: RowInBoth, here: str, there: str, sample: ShownSample | None) -> dict[str, Any]:
    """Return what the template shows of a row.

    Parameters
    ----------
    here, there
        The letters of the run that chose it and of the other one.
    sample
        Its pictures and turns; None where the record could not be read.
    """
    turns = () if sample is None else sample.turns
    question = next((turn.text for turn in turns if turn.role == "user"), "")
    answer = next((turn.text for turn in turns if turn.role == "assistant"), "")
    plain = " ".join(_MARK.sub(" ", question).split())
    pictures = () if sample is None else sample.pictures
    return {
        "row": row.row,
        "name": printable_line(f"row {row.row:,}" + ("" if row.id is None else f", id {row.id}")),
        "source": printable_line(row.source),
        "here": f"{here}: rank {row.rank:,}, score {row.score:.4g}",
        "there": f"{there}: {_words_of_other(row)}",
        "pictures": [_picture(picture, row.row, plain) for picture in pictures[:_PICTURES]],
        "more_pictures": 0 if sample is None else len(pictures[_PICTURES:]) + sample.more_pictures,
        "fault": "" if sample is None else sample.fault or "",
        "question": _short(plain),
        "answer": _short(" ".join(answer.split())),
        "turns": [{"role": turn.role, "text": printable(turn.text)} for turn in turns],
    }


def _words_of_other(row: RowInBoth) -> str:
    reason = row.other_reason and reason_words(row.other_reason)
    if row.other_rank is None:
        return f"no score: {reason or 'it shows no image'}"
    told = f"rank {row.other_rank:,}, score {row.other_score:.4g}"
    return f"{told}; barred: {reason}" if reason else told


def _picture(picture: ShownPicture, row: int, question: str) -> dict[str, Any]:
    alternative = printable_line(f"Image of row {row:,}: {question or picture.name}")
    return {
        "address": None
        if picture.thumbnail is None
        else f"data:image/webp;base64,{base64.b64encode(picture.thumbnail).decode()}",
        "width": picture.width,
        "height": picture.height,
        "alternative": alternative[:_ALTERNATIVE],
        "fault": printable_line(picture.fault or "not shown"),
    }


def _short(text: str) -> str:
    text = printable_line(text)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."

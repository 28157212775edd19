"""What a run is, in words: its data sets, its model, its budgets."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from scalselect.report_page.number_words import counted, listed, percent
from scalselect.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.report_page.material import Material

_MOST_NAMED = 3


def is_of_own_vectors(run: Mapping[str, Any]) -> bool:
    """Tell whether the vectors of a run were made elsewhere, so that it knows no model and no records."""
    return "representations" in run["represent"]


def pool_words(run: Mapping[str, Any]) -> str:
    """Return the names of the data sets of a run: `pool.json`, or `coco, charts and 2 more`."""
    if is_of_own_vectors(run):
        return str(run["represent"]["representations"])
    segments = segments_of(run)
    if len(segments) == 1:
        path = segments[0].path
        return "a Python object" if path is None else PurePath(path.rstrip("/")).name or path
    names = [segment.source for segment in segments]
    more = len(names) - _MOST_NAMED
    return listed(names if more <= 0 else [*names[:_MOST_NAMED], f"{more} more"])


def model_words(run: Mapping[str, Any]) -> str | None:
    """Return the name of the model of a run as it was given; None where vectors were made elsewhere."""
    model = run.get("model")
    return None if is_of_own_vectors(run) or model is None else str(model)


def trial_of(run: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many first rows of how many a run looked at; None where `--limit` left none out."""
    if is_of_own_vectors(run) or run["represent"].get("limit") is None:
        return None
    segments = segments_of(run)
    rows, records = (sum(sizes) for sizes in zip(*((each.rows, each.data_records) for each in segments), strict=True))
    return (rows, records) if rows < records else None


def pools_of(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name, place, size and format of every data set."""
    if is_of_own_vectors(run):
        represent = run["represent"]
        place = str(represent["representations"])
        return [{"name": "vectors", "place": place, "rows": counted(represent["rows"], "row"), "format": "vectors"}]
    return [
        {
            "name": segment.source,
            "place": "a Python object" if segment.path is None else segment.path,
            "rows": counted(segment.rows, "row")
            + (f" of {segment.data_records:,}" if segment.data_records > segment.rows else ""),
            "format": segment.data_format or "unknown",
        }
        for segment in segments_of(run)
    ]


def budget_lines(material: Material) -> list[str]:
    """Return each budget as asked and as met."""
    selection = material.selection
    if selection is None:
        return ["none yet"]
    eligible = selection["rows"]["eligible"]
    lines = []
    for budget in selection["budgets"]:
        more = f" and {counted(budget['text_only'], 'text-only row')} on top" if budget["text_only"] else ""
        share = f", {percent(budget['rows'] / eligible)} of {eligible:,} eligible" if eligible else ""
        lines.append(f"{asked_words(budget['asked'])} asked, {counted(budget['rows'], 'row')} chosen{share}{more}")
    return lines


def asked_words(asked: str) -> str:
    """Return a budget as it was asked for: `16 %`, `5,000 rows`."""
    text = asked.strip()
    return text.replace("%", f"{percent(0)[1:]}") if text.endswith("%") else counted(int(text), "row")

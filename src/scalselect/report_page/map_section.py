"""The map of the page: where rows lie in the dominant subspace, and which of them were chosen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scalselect.printable import printable_line
from scalselect.report_page.encoded_arrays import encoded
from scalselect.report_page.map_density import densities
from scalselect.report_page.map_points import map_axes, map_rows
from scalselect.report_page.page import Section

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from scalselect.report_page.map_points import Axes
    from scalselect.report_page.material import Material

NAMED_GROUPS = 8  # which have a colour of their own
_MOST_NAMES = 200
_LONGEST_NAME = 60
_FEWEST_AXES = 2
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def map_section(material: Material) -> Section:
    """Return the section `map`: densities of all scored rows, and some rows as points."""
    table = material.table
    scored = np.flatnonzero(pc.equal(table["status"], "scored").to_numpy(zero_copy_only=False)).astype(np.int64)
    scores = table["leverage_score"].to_numpy(zero_copy_only=False)[scored].astype(np.float64)  # [scored]
    axes = map_axes(material.coordinates, scores)
    if not scored.size or len(axes.names) < _FEWEST_AXES:
        return Section(name="map", title="Map", content={"there": False, "scored": scored.size})
    seed = int((material.run.get("select") or {}).get("seed") or 0)
    shown = np.concatenate([np.empty(0, dtype=np.int64), *material.shown.values()])
    rows, drawn = map_rows(scored, shown, seed)
    outside, counts = axes.outside(), _narrow(densities(axes))
    groups = {name: _groups(table, name, scored, rows) for name in ("source", "stratum")}
    decided = table["selected"].null_count < table.num_rows
    pairs = [
        {"x": x, "y": y, "label": " and ".join(axes.names[axis].removeprefix("coordinate ") for axis in (x, y))}
        for x, y in axes.pairs
    ]
    content = {
        "there": True,
        "scored": scored.size,
        "points": rows.size,
        "drawn": drawn,
        "seed": seed,
        "pairs": pairs,
        "outside": int(outside[0]),
        "decided": decided,
        "groups": [name for name, facts in groups.items() if facts is not None],
    }
    data = {
        "scored": scored.size,
        "cells": counts.shape[1],
        "axes": [
            {"name": name, "range": bounds} for name, bounds in zip(axes.names, axes.ranges.tolist(), strict=True)
        ],
        "pairs": [{**pair, "outside": int(count)} for pair, count in zip(pairs, outside, strict=True)],
        "densities": encoded(counts),
        "decided": decided,
        "scores_at": [float(value) for value in np.quantile(scores, _QUARTERS)],
        "groups": {name: facts for name, facts in groups.items() if facts is not None},
        "points": _points(table, axes, np.searchsorted(scored, rows), rows, np.isin(rows, shown)),
    }
    return Section(name="map", title="Map", content=content, data=data)


def _points(
    table: pa.Table, axes: Axes, places: NDArray[np.int64], rows: NDArray[np.int64], shown: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return what is known of each point, [points] each; `coordinates` are [axes, points]."""
    selected = pc.fill_null(table["selected"].combine_chunks().take(rows), fill_value=False)
    return {
        "row": encoded(rows.astype(np.uint32)),
        "score": encoded(table["leverage_score"].to_numpy(zero_copy_only=False)[rows].astype(np.float64)),
        "rank": encoded(table["rank"].to_numpy(zero_copy_only=False)[rows].astype(np.uint32)),
        "chosen": encoded(selected.to_numpy(zero_copy_only=False).astype(np.uint8)),
        "shown": encoded(shown.astype(np.uint8)),
        "coordinates": encoded(axes.values[:, places].astype(np.float32)),
    }


def _groups(table: pa.Table, name: str, scored: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return the values of a column, most frequent first, and which of them each point has; None for a single one.

    Of more than `_MOST_NAMES` the last stands for all others.
    """
    column = table[name].combine_chunks()
    if column.null_count == len(column):
        return None
    encoding = column.dictionary_encode(null_encoding="encode")
    codes = encoding.indices.to_numpy(zero_copy_only=False)  # [pool]
    values = encoding.dictionary.to_pylist()
    counts = Counter(dict(enumerate(np.bincount(codes[scored], minlength=len(values)).tolist())))
    order = [code for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count]
    if len(order) < 2:  # noqa: PLR2004  one colour says nothing
        return None
    place_of = np.full(len(values), min(len(order), _MOST_NAMES) - 1, dtype=np.uint16)
    for place, code in enumerate(order[:_MOST_NAMES]):
        place_of[code] = place
    names = [_name(values[code]) for code in order[:_MOST_NAMES]]
    if len(order) > _MOST_NAMES:
        names[-1] = f"one of {len(order) - _MOST_NAMES + 1:,} others"
    return {
        "names": names,
        "named": min(len(names), NAMED_GROUPS),
        "counts": [counts[code] for code in order[:NAMED_GROUPS]],
        "values": len(order),
        "code": encoded(place_of[codes[rows]]),
    }


def _name(value: str | None) -> str:
    return "none" if value is None else printable_line(value[:_LONGEST_NAME])


def _narrow(counts: NDArray[np.uint32]) -> NDArray[np.uint32] | NDArray[np.uint16]:
    """Return counts in half the bytes where they fit."""
    return counts.astype(np.uint16) if counts.max(initial=0) <= np.iinfo(np.uint16).max else counts

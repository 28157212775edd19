"""What a person should know before training on a subset, one sentence each, from the saved records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.report_page.leverage_words import few_hold_most
from scalselect.report_page.number_words import counted, listed, percent, were
from scalselect.report_page.run_words import trial_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from scalselect.report_page.material import Material

_MANY_COPIES = 0.2  # share of chosen rows whose nearest other chosen row is a near-copy
_MANY_SKIPPED = 0.05
_STARVED_BELOW = 0.5  # of the rows that a share of its candidates would have come to
_ENOUGH_TO_TELL = 5.0  # rows that a group should have had; of fewer, chance alone may have left none
_CLEARLY = 2.0  # standard deviations
_MOST_NAMED = 5
_PLURALS = {"stratum": "strata", "data set": "data sets"}


def page_warnings(material: Material) -> list[str]:
    """Return the warnings of `selection.json`, and what the numbers of the run warn of beyond them."""
    if material.selection is None:
        return [*_of_trial(material.run), *_of_leverage(material.table)]
    found = [*_of_trial(material.run), *_of_leverage(material.table)]
    found += [_sentence(warning) for warning in material.selection["warnings"]]
    return [*found, *_of_rows(material.selection), *_of_copies(material.diagnostics), *_of_groups(material)]


def _of_trial(run: Mapping[str, Any]) -> Iterator[str]:
    trial = trial_of(run)
    if trial is not None:
        rows, records = trial
        yield (
            f"A trial: `--limit` left out {counted(records - rows, 'row')} of {records:,}, so scores and choice are "
            f"those of the first {rows:,} alone; a run over all rows would choose otherwise."
        )


def _of_leverage(table: pa.Table) -> Iterator[str]:
    scores = table["leverage_score"].to_numpy(zero_copy_only=False)  # [pool]
    rows = np.flatnonzero(~np.isnan(scores))
    few = few_hold_most(scores[rows]) if rows.size else None
    if few is None:
        return
    count, share = few
    if count == 1:
        first = int(rows[np.argmax(scores[rows])])
        yield (
            f"One row alone, row {first:,}, holds {percent(share)} of all leverage; an even share would be "
            f"{percent(1 / rows.size)}. Look at it first: it decides the subspace, and so the scores of all others."
        )
    else:
        yield (
            f"The {counted(count, 'row')} of highest score, {percent(count / rows.size)} of those with a score, hold "
            f"{percent(share)} of all leverage. Look at them first: they decide the subspace, and so all scores."
        )


def _sentence(words: str) -> str:
    """Return a warning as a sentence that stands alone."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", ":")) else ".")


def _of_rows(selection: Mapping[str, Any]) -> Iterator[str]:
    rows, noted = selection["rows"], selection["noted"]
    with_images = rows["pool"] - rows["text_only"]
    if with_images and rows["skipped"] / with_images > _MANY_SKIPPED:
        yield (
            f"{counted(rows['skipped'], 'row')} ({percent(rows['skipped'] / with_images)} of those with images) "
            f"{were(rows['skipped'])} skipped, so the subset was chosen from the rest alone."
        )
    if rows["scored"] and noted["uniform"] / rows["scored"] > _MANY_SKIPPED:
        yield (
            f"In {counted(noted['uniform'], 'row')} the instruction attends to no image token, so all image tokens "
            "counted alike."
        )


def _of_copies(diagnostics: Mapping[str, Any] | None) -> Iterator[str]:
    redundancy = (diagnostics or {}).get("redundancy")
    if not redundancy:
        return
    rows = diagnostics["rows"]["chosen"] if diagnostics else 0
    near, usual = (redundancy[name]["near_copies"] for name in ("chosen", "random"))
    if near is not None and near > _MANY_COPIES:
        yield (
            f"Many near-copies: {percent(near)} of the chosen rows have another chosen row that the model sees almost "
            f"alike{_beside(near, usual, rows)}. `--deduplicate near` bars them."
        )
    exact = redundancy["chosen"]["exact_copies"]
    if exact and rows:
        repeat = "repeats the images and conversation" if exact == 1 else "repeat images and conversation"
        yield (
            f"{counted(exact, 'chosen row')} ({percent(exact / rows)}) {repeat} of another chosen row. "
            "`--deduplicate exact` bars them."
        )


def _beside(near: float, usual: float | None, rows: int) -> str:
    """Return how a share of near-copies stands to that of a random choice as large."""
    if usual is None or not rows:
        return ""
    chance = _CLEARLY * math.sqrt((near * (1 - near) + usual * (1 - usual)) / rows)
    if near > usual + chance:
        return f", more than of a random choice ({percent(usual)})"
    if near < usual - chance:
        return f"; of a random choice it would be more, {percent(usual)}, so the pool is what repeats itself"
    return f"; of a random choice it would be about as many, {percent(usual)}, so the pool is what repeats itself"


def is_starved(chosen: float, due: float) -> bool:
    """Return whether a group has less than half of the rows due to its share, where at least five are due."""
    return due >= _ENOUGH_TO_TELL and chosen < _STARVED_BELOW * due


def rows_due(material: Material) -> dict[str, dict[Any, tuple[int, float]]]:
    """Return the chosen rows of each stratum or, without strata, of each data set, and the rows due by its share."""
    found = {}
    for word, groups in _groups_of(material).items():
        total, chosen = (sum(pair[i] for pair in groups.values()) for i in (0, 1))
        if total:
            found[word] = {name: (rows, pool * chosen / total) for name, (pool, rows) in groups.items()}
    return found


def _of_groups(material: Material) -> Iterator[str]:
    for word, groups in rows_due(material).items():
        starved = [(name, rows, due) for name, (rows, due) in groups.items() if is_starved(rows, due)]
        starved.sort(key=lambda item: (item[1] / item[2], str(item[0])))
        if starved:
            told = [
                f"{name} ({counted(rows, 'row') if rows else 'no row'} chosen, {round(share):,} by its share)"
                for name, rows, share in starved[:_MOST_NAMED]
            ]
            more = len(starved) - _MOST_NAMED
            told += [f"{more:,} more"] if more > 0 else []
            yield f"Starved {word if len(starved) == 1 else _PLURALS[word]}: {listed(told)}."


def _groups_of(material: Material) -> dict[str, dict[Any, tuple[int, int]]]:
    """Return rows of the pool and chosen rows of each stratum or, without strata, of each data set."""
    strata = (material.selection or {}).get("strata")
    if strata:
        return {"stratum": {name: (facts["candidates"], facts["chosen"]) for name, facts in strata.items()}}
    source = ((material.diagnostics or {}).get("balance") or {}).get("source")
    if source and source["values"] > 1:
        told = [*source["over"], *source["under"]]
        return {"data set": {item["value"]: (item["pool_rows"], item["chosen_rows"]) for item in told}}
    return {}

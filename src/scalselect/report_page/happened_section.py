"""What happened: a sentence to repeat, where every row went, and what to know before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from scalselect.report_page.next_step import unscored_words
from scalselect.report_page.number_words import counted, listed, percent, were
from scalselect.report_page.page import Section
from scalselect.report_page.page_warnings import page_warnings
from scalselect.report_page.row_fates import row_fates
from scalselect.report_page.run_words import (
    asked_words,
    budget_lines,
    is_of_own_vectors,
    model_words,
    pool_words,
    pools_of,
    trial_of,
)
from scalselect.report_page.term_words import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalselect.report_page.material import Material
    from scalselect.report_page.row_fates import Fate

_BAR = 1000  # units wide
_LEAST = 4  # units of the smallest part, so that it is seen


def page_title(material: Material) -> tuple[str, str]:
    """Return title and subtitle of the page."""
    model = model_words(material.run)
    seen = f"model: {'given in Python' if model is None else model}"
    if is_of_own_vectors(material.run):
        seen = "vectors made elsewhere"
    what = "What is known of" if material.selection is None else "What was chosen from"
    trial = trial_of(material.run)
    if trial is not None:
        what = f"A trial: {what[:1].lower()}{what[1:]} the first {trial[0]:,} of {counted(trial[1], 'row')} of"
    return f"{what} {pool_words(material.run)}", f"{seen} · scalselect report"


def happened_section(material: Material) -> Section:
    """Return the first section of the page."""
    fates = row_fates(material.table)
    total = material.table.num_rows
    return Section(
        name="happened",
        title="What happened",
        content={
            "conclusion": conclusion(material, fates),
            "about": _about(material),
            "terms": terms_of(material),
            "facts": _facts(material),
            "pools": pools_of(material.run),
            "bar": _bar(fates, total),
            "widened": any(fate.rows / total < _LEAST / _BAR for fate in fates),
            "fates": [
                {
                    "kind": fate.kind,
                    "words": fate.words,
                    "reason": fate.reason,
                    "rows": f"{fate.rows:,}",
                    "share": percent(fate.rows / total),
                }
                for fate in fates
            ],
            "total": f"{total:,}",
            "warnings": page_warnings(material),
        },
        data={"fates": [[fate.kind, fate.reason, fate.rows] for fate in fates]},
    )


def conclusion(material: Material, fates: Sequence[Fate]) -> str:
    """Return the sentence that a person can repeat; of a trial that it is one."""
    trial = trial_of(material.run)
    told = _conclusion(material, fates)
    return told if trial is None else f"A trial of the first {trial[0]:,} of {counted(trial[1], 'row')}. {told}"


def _conclusion(material: Material, fates: Sequence[Fate]) -> str:
    total, selection = material.table.num_rows, material.selection
    scored = sum(fate.rows for fate in fates if fate.kind in ("chosen", "others", "barred"))
    pool = counted(total, "row")
    if not material.singular_values.size:
        return unscored_words(material, fates)
    if selection is None:
        done = f"{scored:,} of {pool} {were(scored)} scored"
        return f"{done}, and nothing was chosen yet; `scalselect select` is the next step."
    budget, rows = selection["budget"], selection["rows"]
    share = f", {percent(budget['rows'] / rows['candidates'])} of {_could_be(rows)}" if rows["candidates"] else ""
    held = (material.diagnostics or {}).get("leverage", {}).get("held")
    told = "" if held is None else f" They hold {percent(held)} of the leverage."
    more = selection["text_only"]["chosen"]
    on_top = ""
    if more:  # so that more than one is to be trained on
        on_top = f" With {counted(more, 'text-only row')} on top, {rows['selected']:,} are to be trained on."
    return f"{budget['rows']:,} of {pool} {were(budget['rows'])} chosen{share}.{told}{on_top}"


def _could_be(rows: Mapping[str, Any]) -> str:
    """Return the rows that could have been chosen, and how many with a score could not."""
    barred = rows["scored"] - rows["candidates"]
    if not barred:
        return "those that could be"
    return f"the {rows['candidates']:,} that could be; {barred:,} with a score {were(barred)} barred"


def _about(material: Material) -> str | None:
    """Return which of several budgets the page is about."""
    asked = [asked_words(budget["asked"]) for budget in (material.selection or {}).get("budgets", [])]
    if len(asked) < 2:  # noqa: PLR2004  one needs no telling
        return None
    return (
        f"{len(asked):,} budgets were asked for: {listed(asked)}. What is said above, the warnings, the bar, map, "
        f"samples and balance are about the first, {asked[0]}; the curve of leverage shows all of them."
    )


def _facts(material: Material) -> list[tuple[str, list[str]]]:
    run, selection = material.run, material.selection
    model = model_words(run)
    k = material.coordinates.shape[1]
    strategy = [] if selection is None else [_strategy_words(material)]
    scores = "leverage scores" if is_of_own_vectors(run) else "leverage scores of first-layer representations"
    method = f"{scores} on {counted(k, 'dominant dimension')}" if k else "no scores yet"
    facts = [("Budget", budget_lines(material)), ("Method", [method, *strategy])]
    if model is not None:
        facts.insert(0, ("Model", [model]))
    if selection is not None and selection["selected"]["tokens"] is not None:
        chosen = selection["selected"]
        tokens, images = counted(chosen["tokens"], "token"), counted(chosen["images"], "different image")
        facts.append(("Subset", [f"{tokens}, {images}", f"in {chosen['file']}"]))
    begun = str(run.get("created", "at an unknown time")).replace("T", " ").replace("+00:00", " UTC")
    facts.append(("Begun", [f"{begun} with scalselect {_version(material)}"]))
    return facts


def _strategy_words(material: Material) -> str:
    selection = material.selection or {}
    extra = []
    if selection["included"]:
        extra.append(f"{counted(selection['included'], 'row')} had to be in")
    if selection["strata"]:
        extra.append(f"quotas for {counted(len(selection['strata']), 'stratum', 'strata')}")
    beside = f" ({', '.join(extra)})" if extra else ""
    return f"{selection['strategy']}: {selection['strategy_definition']}{beside}"


def _version(material: Material) -> str:
    return str((material.run.get("versions") or {}).get("scalselect", "of an unknown version"))


def _bar(fates: Sequence[Fate], total: int) -> Markup:
    """Return the bar of where every row went; the table beside it is its text alternative."""
    widths = _widths([fate.rows / total for fate in fates])
    parts, at = [], 0.0
    for fate, width in zip(fates, widths, strict=True):
        words = f"{fate.words}: {counted(fate.rows, 'row')}, {percent(fate.rows / total)}"
        parts.append(
            Markup('<rect x="{:.1f}" y="0" width="{:.1f}" height="40" class="bar {}"><title>{}</title></rect>').format(
                at, max(width - 1.5, 1.5), fate.kind, words
            )
        )
        at += width
    title = Markup('<title id="fates-t">Where every row went</title>')
    title += Markup('<desc id="fates-d">The table below says the same.</desc>')
    return Markup(
        '<svg class="fates" viewBox="0 0 {} 40" preserveAspectRatio="none" role="img" '
        'aria-labelledby="fates-t fates-d">{}{}</svg>'
    ).format(_BAR, title, Markup("").join(parts))


def _widths(shares: Sequence[float]) -> list[float]:
    """Return widths that fill the bar, none below the least; what small parts gain the others lose alike."""
    small = [share * _BAR < _LEAST for share in shares]
    left = _BAR - _LEAST * sum(small)
    whole = sum(share for share, few in zip(shares, small, strict=True) if not few)
    return [_LEAST if few else share / whole * left for share, few in zip(shares, small, strict=True)]

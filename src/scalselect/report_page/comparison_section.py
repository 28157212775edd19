"""The page of two runs, section by section: what they are, what both chose, how their ranks and subspaces agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.printable import printable_line
from scalselect.report_page.comparison_cards import card
from scalselect.report_page.comparison_figures import (
    POINTS_DRAWN,
    agreement_curve,
    agreement_drawing,
    angle_drawing,
    part_bar,
    rank_drawing,
)
from scalselect.report_page.comparison_words import (
    row_words,
    sentence,
    value_words,
    words_of_angles,
    words_of_chance,
    words_of_order,
    words_of_time,
)
from scalselect.report_page.encoded_arrays import encoded
from scalselect.report_page.figures import two_sizes
from scalselect.report_page.number_words import counted, number, percent
from scalselect.report_page.page import Section

if TYPE_CHECKING:
    from markupsafe import Markup

    from scalselect.comparison import Comparison
    from scalselect.diagnostics.agreement import SetOverlap
    from scalselect.report_page.comparison_material import ComparisonMaterial

_GROUP_WORDS = {"represent": "representing", "score": "scoring", "select": "choosing"}


def comparison_sections(material: ComparisonMaterial) -> list[Section]:
    """Return the sections of the page of two runs, in the order in which a person asks."""
    sections = [_runs(material), _choice(material), _ranks(material), _subspaces(material), _options(material)]
    return sections if material.comparison.overlap is None else [*sections, _samples(material)]


def _runs(material: ComparisonMaterial) -> Section:
    comparison = material.comparison
    a, b = material.runs
    held = (comparison.subspace_a, comparison.subspace_b)
    facts: list[tuple[str, ...]] = [
        ("folder", a.folder, b.folder),
        ("model", a.model or "vectors made elsewhere", b.model or "vectors made elsewhere"),
        ("begun", words_of_time(a.created), words_of_time(b.created)),
        ("rows with a score", f"{a.scored:,}", f"{b.scored:,}"),
        ("chosen", _words_of_choice(material, 0), _words_of_choice(material, 1)),
        ("subspace", *(f"k = {each['k']:,} with {percent(each['energy'])} of the energy" for each in held)),
    ]
    return Section(
        name="comparison-runs",
        title="The two runs",
        content={
            "lead": f"Both are of the same {counted(comparison.rows, 'row')}. "
            f"{words_of_order(comparison.rank_correlation)}",
            "facts": [tuple(map(printable_line, line)) for line in facts],
            "notes": [sentence(note) for note in comparison.notes],
        },
        data={
            "rows": comparison.rows,
            "scored_in_both": comparison.scored_in_both.size,
            "scored_only_in_a": comparison.scored_only_in_a.size,
            "scored_only_in_b": comparison.scored_only_in_b.size,
        },
    )


def _words_of_choice(material: ComparisonMaterial, which: int) -> str:
    run, overlap = material.runs[which], material.comparison.overlap
    told = [] if overlap is None else [f"{counted((overlap.rows_a, overlap.rows_b)[which], 'row')} with a score"]
    told += [] if run.budget is None else [f"{run.budget} asked, by {run.strategy}"]
    return "; ".join(told) or "nothing yet"


def _choice(material: ComparisonMaterial) -> Section:
    overlap = material.comparison.overlap
    if overlap is None:
        reason = f"Chosen rows are not compared: {material.comparison.overlap_reason}."
        return Section(name="comparison-choice", title="What was chosen", content={"reason": reason})
    lead = (
        f"{counted(overlap.shared, 'row was', 'rows were')} chosen by both: {percent(overlap.share_of_a)} of A's "
        f"{overlap.rows_a:,} and {percent(overlap.share_of_b)} of B's {overlap.rows_b:,}. "
        f"{words_of_chance(overlap.shared, overlap.at_random)}"
    )
    content = {"reason": "", "lead": lead, "bars": _bars(overlap), "jaccard": f"{overlap.jaccard:.3f}"}
    names = ("rows_a", "rows_b", "shared", "at_random")
    data = {name: getattr(overlap, name) for name in names}
    return Section(name="comparison-choice", title="What was chosen", content=content, data=data)


def _bars(overlap: SetOverlap) -> list[dict[str, Any]]:
    """Return name, parts in words and bar of the two runs, and of two random choices."""
    shared = {"These two runs": float(overlap.shared), "Two random choices, on average": overlap.at_random}
    parts = {name: (overlap.rows_a - both, both, overlap.rows_b - both) for name, both in shared.items()}
    whole = max(map(sum, parts.values()))
    found = []
    for name, sizes in parts.items():
        told = [row_words(size) for size in sizes]
        words = f"{name}: {told[0]} A alone, {told[1]} both, {told[2]} B alone"
        found.append({"name": name, "parts": told, "bar": part_bar(sizes, whole, words)})
    return found


def _ranks(material: ComparisonMaterial) -> Section:
    comparison, places = material.comparison, material.places
    rows = places.shape[1]
    if not rows:
        reason = "No row has a score in both runs."
        return Section(name="comparison-ranks", title="Ranks", content={"reason": reason})
    numbers, shared = agreement_curve(places)
    told = "; ".join(f"of the best {percent(item.percent / 100)}, {percent(item.share)}" for item in comparison.top)
    dots = [(item.rows / rows, item.share) for item in comparison.top]
    drawn = "each row is a point" if rows <= POINTS_DRAWN else "the stronger the shade, the more rows"
    content = {
        "reason": "",
        "lead": f"Of the rows that rank highest, the two runs have in common: {told}.",
        "drawn": f"{counted(rows, 'row')} with a score in both; {drawn}",
        "ranks": _figure_of_ranks(material, drawn),
        "agreement": two_sizes(
            "agreement",
            "What the best rows have in common",
            f"In common: {told}; of two random orders, as much as is looked at.",
            lambda width, height: agreement_drawing(numbers, shared, dots, width, height),
        ),
        "table": [
            (percent(item.percent / 100), f"{item.rows:,}", f"{item.shared:,}", percent(item.share))
            for item in comparison.top
        ],
    }
    data = {
        "rank_correlation": comparison.rank_correlation,
        "top": [{"percent": item.percent, "rows": item.rows, "shared": item.shared} for item in comparison.top],
        "best": encoded(numbers.astype(np.uint32)),
        "shared": encoded(shared.astype(np.uint32)),
    }
    return Section(name="comparison-ranks", title="Ranks", content=content, data=data)


def _figure_of_ranks(material: ComparisonMaterial, drawn: str) -> Markup:
    comparison = material.comparison
    overlap = comparison.overlap
    marked = (None, None) if overlap is None else (overlap.rows_a, overlap.rows_b)
    return two_sizes(
        "ranks",
        "Ranks in A and in B",
        f"{counted(material.places.shape[1], 'row')} with a score in both; {drawn}. "
        f"{words_of_order(comparison.rank_correlation)}",
        lambda width, height: rank_drawing(material.places, marked, width, height),
        wide=(540, 540),
        narrow=(340, 340),
    )


def _subspaces(material: ComparisonMaterial) -> Section:
    comparison = material.comparison
    sides = (comparison.subspace_a, comparison.subspace_b)
    table = [
        ("dimensions k", *(f"{facts['k']:,}" for facts in sides)),
        ("energy held", *(percent(facts["energy"]) for facts in sides)),
        ("gap s_k / s_k+1", *("none left" if facts["gap"] is None else number(facts["gap"], 4) for facts in sides)),
        ("energy of the largest dimension", *(percent(facts["largest_dimension_energy"]) for facts in sides)),
    ]
    angles = comparison.angles
    return Section(
        name="comparison-subspaces",
        title="Subspaces",
        content={"lead": words_of_angles(comparison), "table": table, "figure": _figure_of_angles(comparison)},
        data={"angles": None if angles is None else angles.tolist()},
    )


def _figure_of_angles(comparison: Comparison) -> Markup | None:
    angles = comparison.angles
    if angles is None or not angles.size:
        return None
    return two_sizes(
        "angles",
        "Principal angles",
        words_of_angles(comparison),
        lambda width, height: angle_drawing(angles, width, height),
    )


def _options(material: ComparisonMaterial) -> Section:
    table = [
        (_GROUP_WORDS.get(group, group), *map(value_words, (name, *values)))
        for group, names in material.comparison.options.items()
        for name, values in names.items()
    ]
    return Section(name="comparison-options", title="Options that differ", content={"table": table})


def _samples(material: ComparisonMaterial) -> Section:
    content = {
        "no_samples": material.no_samples and sentence(material.no_samples),
        "only": [_only(material, which) for which in (0, 1)],
    }
    data = {name: [each.row for each in rows] for name, rows in zip(("only_a", "only_b"), material.only, strict=True)}
    return Section(name="comparison-samples", title="What only one of them chose", content=content, data=data)


def _only(material: ComparisonMaterial, which: int) -> dict[str, Any]:
    """Return heading and cards of what one run alone chose."""
    here, there = ("A", "B") if which == 0 else ("B", "A")
    rows, shown = material.only_rows[which], material.only[which]
    return {
        "letter": here.lower(),
        "heading": f"{here} alone chose {counted(rows, 'row')}",
        "more": f"The {len(shown):,} best ranked of them are shown." if len(shown) < rows else "",
        "cards": [card(row, here, there, material.samples.get(row.row)) for row in shown],
    }

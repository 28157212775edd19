"""The page of two runs, section by section: what they are, what both chose, how their ranks and subspaces agree."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.printable import printable_line
from scalselect.report_page.comparison_cards import card
from scalselect.report_page.comparison_figures import (
    BAR_HEIGHT,
    POINTS_DRAWN,
    agreement_curve,
    agreement_figure,
    angle_figure,
    both_sizes,
    overlap_bars,
    rank_figure,
    row_words,
)
from scalselect.report_page.encoded_arrays import encoded
from scalselect.report_page.page import Section

if TYPE_CHECKING:
    from markupsafe import Markup
    from numpy.typing import NDArray

    from scalselect.comparison import Comparison
    from scalselect.report_page.comparison_material import ComparisonMaterial, RunFacts

_HASH = re.compile(r"[0-9a-f]{40,64}")
_SHORT_HASH = 12
_ALIKE, _APART = 15.0, 45.0  # degrees
_STRONG, _WEAK = 0.9, 0.5
_CHANCE = 1.1  # times what chance gives
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
        ("begun", _words_of_time(a.created), _words_of_time(b.created)),
        ("rows with a score", f"{a.scored:,}", f"{b.scored:,}"),
        ("chosen", _words_of_choice(material, 0), _words_of_choice(material, 1)),
        ("subspace", *(f"k = {each['k']:,} with {each['energy']:.1%} of the energy" for each in held)),
    ]
    return Section(
        name="comparison-runs",
        title="The two runs",
        content={
            "lead": f"Both are of the same {comparison.rows:,} rows. {_words_of_agreement(comparison)}",
            "facts": [tuple(map(printable_line, line)) for line in facts],
            "notes": [_sentence(note) for note in comparison.notes],
        },
        data={
            "rows": comparison.rows,
            "scored_in_both": comparison.scored_in_both.size,
            "scored_only_in_a": comparison.scored_only_in_a.size,
            "scored_only_in_b": comparison.scored_only_in_b.size,
        },
    )


def _words_of_choice(material: ComparisonMaterial, which: int) -> str:
    run: RunFacts = material.runs[which]
    overlap = material.comparison.overlap
    told = [] if overlap is None else [f"{(overlap.rows_a, overlap.rows_b)[which]:,} rows with a score"]
    told += [] if run.budget is None else [f"{run.budget} asked, by {run.strategy}"]
    return "; ".join(told) or "nothing yet"


def _words_of_time(created: str | None) -> str:
    if created is None:
        return "not known"
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):.*\+00:00$", r"\1 \2 UTC", created)


def _words_of_agreement(comparison: Comparison) -> str:
    correlation = comparison.rank_correlation
    if correlation is None:
        return "There is no order of scores to compare."
    if correlation >= _STRONG:
        words = "They rank rows nearly alike"
    elif correlation >= _WEAK:
        words = "They rank rows alike on the whole, with many exceptions"
    elif correlation > -_WEAK:
        words = "They rank rows in different ways"
    else:
        words = "They rank rows the other way round"
    return f"{words}: rank correlation {correlation:.3f} (Spearman; 1 is the same order, 0 none)."


def _choice(material: ComparisonMaterial) -> Section:
    overlap = material.comparison.overlap
    if overlap is None:
        reason = f"Chosen rows are not compared: {material.comparison.overlap_reason}."
        return Section(name="comparison-choice", title="What was chosen", content={"reason": reason})
    only = (overlap.rows_a - overlap.shared, overlap.rows_b - overlap.shared)
    chance = (overlap.rows_a - overlap.at_random, overlap.at_random, overlap.rows_b - overlap.at_random)
    bars = [
        ("These two runs", float(only[0]), float(overlap.shared), float(only[1])),
        ("Two random choices of these sizes, on average", *chance),
    ]
    told = (
        f"{overlap.shared:,} rows were chosen by both: {overlap.share_of_a:.1%} of A's {overlap.rows_a:,} and "
        f"{overlap.share_of_b:.1%} of B's {overlap.rows_b:,}. {_words_of_chance(overlap.shared, overlap.at_random)}"
    )
    content = {
        "reason": "",
        "lead": told,
        "figure": both_sizes(
            "overlap",
            "Chosen by A, by both, by B",
            told,
            lambda _: 2 * BAR_HEIGHT - 14,
            lambda width: overlap_bars(bars, width),
        ),
        "table": [
            ("A alone", f"{only[0]:,}", row_words(chance[0])),
            ("both", f"{overlap.shared:,}", row_words(overlap.at_random)),
            ("B alone", f"{only[1]:,}", row_words(chance[2])),
        ],
        "jaccard": f"{overlap.jaccard:.3f}",
    }
    data = {
        "rows_a": overlap.rows_a,
        "rows_b": overlap.rows_b,
        "shared": overlap.shared,
        "at_random": overlap.at_random,
    }
    return Section(name="comparison-choice", title="What was chosen", content=content, data=data)


def _words_of_chance(shared: int, at_random: float) -> str:
    if shared > _CHANCE * at_random:
        return f"Two random choices would share {row_words(at_random)}, on average."
    return f"That is no more than chance: two random choices would share {row_words(at_random)}, on average."


def _samples(material: ComparisonMaterial) -> Section:
    content = {
        "no_samples": material.no_samples and _sentence(material.no_samples),
        "only": [_only(material, which) for which in (0, 1)],
    }
    data = {name: [each.row for each in rows] for name, rows in zip(("only_a", "only_b"), material.only, strict=True)}
    return Section(name="comparison-samples", title="What only one of them chose", content=content, data=data)


def _only(material: ComparisonMaterial, which: int) -> dict[str, Any]:
    """Return heading and cards of what one run alone chose."""
    here, there = ("A", "B") if which == 0 else ("B", "A")
    number, shown = material.only_rows[which], material.only[which]
    more = f"The {len(shown):,} best ranked of them are shown." if len(shown) < number else ""
    return {
        "letter": here.lower(),
        "heading": f"{here} alone chose {number:,} {'row' if number == 1 else 'rows'}",
        "more": more,
        "cards": [card(row, here, there, material.samples.get(row.row)) for row in shown],
    }


def _ranks(material: ComparisonMaterial) -> Section:
    comparison, places = material.comparison, material.places
    rows = places.shape[1]
    if not rows:
        reason = "No row has a score in both runs."
        return Section(name="comparison-ranks", title="Ranks", content={"reason": reason})
    overlap = comparison.overlap
    marked = (None, None) if overlap is None else (overlap.rows_a, overlap.rows_b)
    numbers, shared = agreement_curve(places)
    drawn = "each row is a point" if rows <= POINTS_DRAWN else "the darker, the more rows"
    dots = [(item.rows / rows, item.share) for item in comparison.top]
    told = "; ".join(f"of the best {item.percent}%, {item.share:.1%}" for item in comparison.top)
    content = {
        "reason": "",
        "lead": f"Of the rows that rank highest, the two runs have in common: {told}.",
        "ranks": both_sizes(
            "ranks",
            "Ranks in A and in B",
            f"{rows:,} rows that have a score in both; {drawn}. {_words_of_agreement(comparison)}",
            lambda width: width + 8,
            lambda width: rank_figure(places, marked, width),
        ),
        "drawn": f"{rows:,} rows with a score in both; {drawn}",
        "agreement": both_sizes(
            "agreement",
            "What the best rows have in common",
            f"In common {told}; of two random orders, as much as is looked at.",
            lambda _: 300,
            lambda width: agreement_figure(numbers, shared, dots, width),
        ),
        "table": [
            (f"{item.percent}%", f"{item.rows:,}", f"{item.shared:,}", f"{item.share:.1%}") for item in comparison.top
        ],
    }
    data = {
        "rank_correlation": comparison.rank_correlation,
        "top": [{"percent": item.percent, "rows": item.rows, "shared": item.shared} for item in comparison.top],
        "best": encoded(numbers.astype(np.uint32)),
        "shared": encoded(shared.astype(np.uint32)),
    }
    return Section(name="comparison-ranks", title="Ranks", content=content, data=data)


def _subspaces(material: ComparisonMaterial) -> Section:
    comparison = material.comparison
    angles = comparison.angles
    sides = (comparison.subspace_a, comparison.subspace_b)
    content: dict[str, Any] = {
        "table": [
            ("dimensions k", *(f"{facts['k']:,}" for facts in sides)),
            ("energy held", *(f"{facts['energy']:.2%}" for facts in sides)),
            ("gap s_k / s_k+1", *("none left" if facts["gap"] is None else f"{facts['gap']:.4g}" for facts in sides)),
            ("energy of the largest dimension", *(f"{facts['largest_dimension_energy']:.2%}" for facts in sides)),
        ],
        "figure": None,
        "lead": f"Directions are not compared: {comparison.angles_reason}.",
    }
    if angles is not None and angles.size:
        content |= {"lead": _words_of_angles(comparison, angles), "figure": _figure_of_angles(comparison, angles)}
    return Section(
        name="comparison-subspaces",
        title="Subspaces",
        content=content,
        data={"angles": None if angles is None else angles.tolist()},
    )


def _words_of_angles(comparison: Comparison, angles: NDArray[np.float64]) -> str:
    words = f"{angles.size:,} principal {'angle' if angles.size == 1 else 'angles'}"
    words += f" from {angles[0]:.2f} to {angles[-1]:.2f} degrees, median {np.median(angles):.2f}"
    apart = int(np.count_nonzero(angles > _APART))
    if apart:
        return f"{words}: {apart:,} {'is' if apart == 1 else 'are'} nearer to a right angle than to none."
    how = "almost wholly" if angles[-1] <= _ALIKE else "largely"
    if comparison.subspace_a["k"] != comparison.subspace_b["k"]:
        return f"{words}: the smaller subspace lies {how} in the larger one."
    return f"{words}: the two subspaces are {'nearly the same' if angles[-1] <= _ALIKE else 'alike on the whole'}."


def _figure_of_angles(comparison: Comparison, angles: NDArray[np.float64]) -> Markup:
    return both_sizes(
        "angles",
        "Principal angles",
        _words_of_angles(comparison, angles),
        lambda _: 260,
        lambda width: angle_figure(angles, width),
    )


def _options(material: ComparisonMaterial) -> Section:
    table = [
        (_GROUP_WORDS.get(group, group), *map(_shown, (name, *values)))
        for group, names in material.comparison.options.items()
        for name, values in names.items()
    ]
    return Section(name="comparison-options", title="Options that differ", content={"table": table})


def _shown(value: Any) -> str:
    """Return the value of an option as a person reads it; of a hash its beginning."""
    if value is None:
        return "not given"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return f"{text[:_SHORT_HASH]}..." if _HASH.fullmatch(text) else printable_line(text)


def _sentence(words: str) -> str:
    words = printable_line(words)
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")

"""What a comparison of two runs found, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.diagnostics.plain_numbers import plain
from scalselect.summary import Summary, path_words, subspace_words

if TYPE_CHECKING:
    from scalselect.comparison import Comparison

_MOST_ANGLES = 8
_LONGEST_VALUE = 24


def summary_of_comparison(comparison: Comparison) -> Summary:
    """Summarise a comparison."""
    scored = {
        "both": comparison.scored_in_both.size,
        "only_a": comparison.scored_only_in_a.size,
        "only_b": comparison.scored_only_in_b.size,
    }
    told = f"{scored['both']:,} scored in both, {scored['only_a']:,} in A alone, {scored['only_b']:,} in B alone"
    lines = [
        ("A", path_words(comparison.run_a)),
        ("B", path_words(comparison.run_b)),
        ("pool", f"{comparison.rows:,} rows: {told}"),
        *_lines_of_chosen(comparison),
        *_lines_of_scores(comparison),
        ("subspace", f"A: {subspace_words(comparison.subspace_a)}"),
        ("", f"B: {subspace_words(comparison.subspace_b)}"),
        ("angles", _words_of_angles(comparison)),
        *_lines_of_options(comparison),
        *(("note", note) for note in comparison.notes),
    ]
    return Summary(lines, _content(comparison, scored))


def _lines_of_chosen(comparison: Comparison) -> list[tuple[str, str]]:
    overlap = comparison.overlap
    if overlap is None:
        return [("chosen", f"not compared: {comparison.overlap_reason}")]
    words = (
        f"{overlap.rows_a:,} in A, {overlap.rows_b:,} in B, {overlap.shared:,} in both: {overlap.share_of_a:.1%} of A, "
        f"{overlap.share_of_b:.1%} of B (Jaccard {overlap.jaccard:.3f})"
    )
    return [("chosen", words), ("", f"two random choices of these sizes would share {overlap.at_random:,.1f}")]


def _lines_of_scores(comparison: Comparison) -> list[tuple[str, str]]:
    if comparison.rank_correlation is None:
        return [("scores", "no order to compare")]
    top = ", ".join(f"{item.share:.1%} of the highest {item.percent}%" for item in comparison.top)
    return [("scores", f"rank correlation {comparison.rank_correlation:.4f} (Spearman)"), ("", f"shared: {top}")]


def _words_of_angles(comparison: Comparison) -> str:
    angles = comparison.angles
    if angles is None:
        return f"not compared: {comparison.angles_reason}"
    if angles.size <= _MOST_ANGLES:
        return ", ".join(f"{angle:.2f}" for angle in angles) + " degrees"
    return (
        f"{angles.size} between {angles[0]:.2f} and {angles[-1]:.2f} degrees, median {np.median(angles):.2f}; "
        f"{np.count_nonzero(angles < 45)} below 45"  # noqa: PLR2004  nearer to shared than to not
    )


def _lines_of_options(comparison: Comparison) -> list[tuple[str, str]]:
    found = [
        f"{group} {name}: {_shown(first)} in A, {_shown(second)} in B"
        for group, names in comparison.options.items()
        for name, (first, second) in names.items()
    ]
    return [("options" if place == 0 else "", text) for place, text in enumerate(found or ["the same"])]


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _content(comparison: Comparison, scored: dict[str, int]) -> dict[str, Any]:
    overlap = comparison.overlap
    content: dict[str, Any] = plain(
        {
            "run_a": str(comparison.run_a),
            "run_b": str(comparison.run_b),
            "rows": comparison.rows,
            "scored": scored,
            "overlap": overlap
            and {
                **asdict(overlap),
                "jaccard": overlap.jaccard,
                "share_of_a": overlap.share_of_a,
                "share_of_b": overlap.share_of_b,
            },
            "overlap_reason": comparison.overlap_reason,
            "rank_correlation": comparison.rank_correlation,
            "top": [{**asdict(item), "share": item.share} for item in comparison.top],
            "subspace": {"a": comparison.subspace_a, "b": comparison.subspace_b},
            "angles": comparison.angles,
            "angles_reason": comparison.angles_reason,
            "options": {
                group: {name: {"a": first, "b": second} for name, (first, second) in names.items()}
                for group, names in comparison.options.items()
            },
            "notes": comparison.notes,
        }
    )
    return content

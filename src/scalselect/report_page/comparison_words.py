"""What a comparison of two runs means, in words: order of ranks, chance, angles, values of options."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from scalselect.printable import printable_line
from scalselect.report_page.number_words import counted

if TYPE_CHECKING:
    from scalselect.comparison import Comparison

_HASH = re.compile(r"[0-9a-f]{40,64}")
_SHORT_HASH = 12
_ALIKE, _APART = 15.0, 45.0  # degrees
_STRONG, _WEAK = 0.9, 0.5
_CHANCE = 1.1  # times what chance gives
_WHOLE_FROM = 1_000


def words_of_order(correlation: float | None) -> str:
    """Return what a rank correlation means; None where there is no order to compare."""
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


def words_of_chance(shared: int, at_random: float) -> str:
    """Return what two random choices would share, and whether two runs share more."""
    if shared > _CHANCE * at_random:
        return f"Two random choices would share {row_words(at_random)}, on average."
    return f"That is no more than chance: two random choices would share {row_words(at_random)}, on average."


def row_words(number: float) -> str:
    """Return a number of rows, which on average need not be whole."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= _WHOLE_FROM else f"{number:,.1f}"


def words_of_angles(comparison: Comparison) -> str:
    """Return how near the two subspaces are, or why that is not known."""
    angles = comparison.angles
    if angles is None or not angles.size:
        return f"Directions are not compared: {comparison.angles_reason}."
    words = counted(angles.size, "principal angle")
    words += f" from {angles[0]:.2f} to {angles[-1]:.2f} degrees, median {np.median(angles):.2f}"
    apart = int(np.count_nonzero(angles > _APART))
    if apart:
        return f"{words}: {apart:,} {'is' if apart == 1 else 'are'} nearer to a right angle than to none."
    alike = angles[-1] <= _ALIKE
    if comparison.subspace_a["k"] != comparison.subspace_b["k"]:
        return f"{words}: the smaller subspace lies {'almost wholly' if alike else 'largely'} in the larger one."
    return f"{words}: the two subspaces are {'nearly the same' if alike else 'alike on the whole'}."


def words_of_time(created: str | None) -> str:
    """Return a time of `run.json` as a person reads it."""
    if created is None:
        return "not known"
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):.*\+00:00$", r"\1 \2 UTC", created)


def value_words(value: Any) -> str:
    """Return the value of an option; of a hash its beginning."""
    if value is None:
        return "not given"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return f"{text[:_SHORT_HASH]}..." if _HASH.fullmatch(text) else printable_line(text)


def sentence(words: str) -> str:
    """Return words as a sentence of its own."""
    words = printable_line(words)
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")

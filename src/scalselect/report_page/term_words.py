"""What leverage, dominant subspace and energy are, for a reader who meets them here first; where counts begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.report_page.number_words import counted, percent
from scalselect.report_page.run_words import is_of_own_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.report_page.material import Material

_METHOD = "ScalSelect (arXiv 2602.11636)"
_COUNTS = "Rows count from 0, ranks from 1."


def terms_of(material: Material) -> str:
    """Return what the words of the page mean, by the numbers of the run; of an unscored run the method alone."""
    vectors = _vectors(material.run)
    if not material.singular_values.size:
        return f"The method is {_METHOD}. {vectors} {_COUNTS}"
    subspace = material.folder.read_subspace()
    k, of = subspace.rank, counted(subspace.mean.size, "dimension")
    directions, those, hold = (
        ("the one direction", "that one", "this one holds")
        if k == 1
        else (f"the {k:,} directions", "those", "these hold")
    )
    differ, differences = "differ most", "all differences between rows"
    if not subspace.mean.any():  # nothing was centred
        differ, differences = "reach farthest", "the lengths of all vectors"
    return (
        "Leverage says how far a row stands out: it is high where the row goes far in a direction few others take. "
        f"The dominant subspace is {directions}, out of {of}, in which the rows {differ}; leverage looks at {those} "
        f"alone. Energy is the share of {differences}, squared and summed, that some directions hold: {hold} "
        f"{percent(subspace.energy)}. The method is {_METHOD}. {vectors} {_COUNTS}"
    )


def _vectors(run: Mapping[str, Any]) -> str:
    """Return what a row is to the method."""
    represent = run["represent"]
    if is_of_own_vectors(run):
        return "Each row is a vector that was made elsewhere."
    which = (
        "all of its image tokens"
        if represent.get("pooling") == "all"
        else "the image tokens its instruction attends to"
    )
    layer = represent.get("layer") or 0
    place = "the first layer of the model's decoder" if layer == 0 else f"layer {layer} of the model's decoder, from 0,"
    return f"Each row is a vector: the mean of what {place} makes of {which}."

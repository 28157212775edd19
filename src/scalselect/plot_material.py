"""What plots are made from: the scored rows of a run, which of them are drawn, their groups and how these look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scalselect.errors import OptionError, RunFolderError
from scalselect.printable import printable_line
from scalselect.results import RunResult
from scalselect.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

# After Okabe and Ito, for colour-blind readers; a marker for each, so that print in black and white tells them apart.
BLUE, VERMILLION, GREY = "#0072b2", "#d55e00", "#8a8a8a"
_COLOURS = (BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "o^sDvPX"
_LONGEST_NAME = 40


def groups_of(table: pa.Table, colour: str, path: Path) -> Iterator[tuple[str, NDArray[np.bool_], dict[str, Any]]]:
    """Yield name, members among the scored rows and look of each group, the first drawn first.

    Raises
    ------
    RunFolderError
        If the run has no such groups.
    """
    if colour == "choice":
        chosen = chosen_among(table)
        if chosen is None:
            raise RunFolderError(f"nothing was selected yet, so there is no choice to colour by: {path}")
        yield "not chosen", ~chosen, {"color": GREY, "marker": "."}
        yield "chosen", chosen, {"color": BLUE, "marker": "o"}
        return
    if table[colour].null_count == table.num_rows:
        raise RunFolderError(f"the run has no strata to colour by: {path} (`--stratify-by` makes them)")
    names = pc.fill_null(table[colour], "(none)").to_numpy(zero_copy_only=False)
    found, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    largest = np.argsort(-counts, kind="stable")
    own = largest if largest.size <= len(_COLOURS) else largest[: len(_COLOURS) - 1]
    if own.size < largest.size:
        name = f"{largest.size - own.size:,} others"
        yield name, ~np.isin(codes, own), {"color": GREY, "marker": "."}
    for place, code in enumerate(own):
        yield str(found[code]), codes == code, {"color": _COLOURS[place], "marker": _MARKERS[place]}


def label_of(name: str) -> str:
    """Return a name from the data as a label: no formula, and none of those that a legend leaves out."""
    shown = printable_line(name)
    shown = shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 3]}..."
    return f" {shown}".replace("$", r"\$") if shown.startswith("_") else shown.replace("$", r"\$")


def drawn_rows(scored: int, points: int, seed: int) -> NDArray[np.int64]:
    """Return which of the scored rows are drawn, at most so many, ascending places, int64 [drawn]."""
    if scored <= points:
        return np.arange(scored)
    return np.sort(np.random.default_rng(seed).choice(scored, points, replace=False))


def scored_rows(table: pa.Table) -> pa.Table:
    """Return the lines of `scores.parquet` that have a score."""
    return table.filter(pc.equal(table["status"], "scored"))


def chosen_among(table: pa.Table) -> NDArray[np.bool_] | None:
    """Return which rows of a table were chosen; None before any selection."""
    selected = table["selected"]
    if selected.null_count == len(selected):
        return None
    chosen: NDArray[np.bool_] = pc.fill_null(selected, fill_value=False).to_numpy(zero_copy_only=False)
    return chosen


def folder_of(run: RunResult | str | Path) -> RunFolder:
    """Return the run folder of what a plot is given. Raises OptionError for anything else."""
    if isinstance(run, RunResult):
        return RunFolder(run.folder)
    if not isinstance(run, (str, Path)):
        raise OptionError(f"run must be a RunResult or a run folder: {type(run).__name__}")
    return RunFolder(run)

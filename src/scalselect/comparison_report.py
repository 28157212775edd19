"""The page of two runs side by side, over their run folders: compared, read, and put into one file. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scalselect.comparison import compare
from scalselect.errors import RunFolderError
from scalselect.printable import printable_line
from scalselect.progress import Silent
from scalselect.report_page.comparison_material import ComparisonMaterial, RowInBoth, RunFacts
from scalselect.report_page.comparison_section import comparison_sections
from scalselect.report_page.page import page_bytes
from scalselect.report_place import write_page
from scalselect.reported_records import reported_records
from scalselect.run_folder import RunFolder
from scalselect.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from scalselect.comparison import Comparison
    from scalselect.progress import Progress
    from scalselect.report_work import ReadSamples

MOST_OF_A_RUN = 50
_LONGEST_NAME = 180  # bytes: names of files may have 255, those of temporary files beside them are longer
_STYLES = ("page.css", "comparison.css")


def comparison_page(
    run_a: str | Path,
    run_b: str | Path,
    *,
    dataset: Any = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a page that shows two runs of the same data side by side.

    Parameters
    ----------
    run_a, run_b
        The run folders; see `scalselect.compare`.
    dataset
        As in `scalselect.select`: the records of runs that were given a Python list, or data that have moved. Without
        records the page has no pictures and conversations, and says why.
    output
        File to write, replaced where it exists; default: `report_with_NAME.html` in the folder of the first run, NAME
        that of the second one.

    Returns
    -------
    The file that was written.

    Raises
    ------
    RunFolderError
        If one of them is no run folder or has no scores, or they are runs of different data.
    OptionError
        If `output` is a folder, or a file that is no page.
    DatasetError
        If `dataset` is given and holds not the data of the runs.
    DamagedFileError
        If a file that is read is not what was published.
    """
    a, b = RunFolder(run_a), RunFolder(run_b)
    comparison = compare(a.path, b.path)
    read_samples, no_samples = reported_records(a.require(), dataset)
    progress = progress or Silent()

    def page() -> bytes:
        progress.say("comparing the two runs")
        return _page(a, b, comparison, read_samples, no_samples)

    return write_page(a, output, a.report_beside(_name_of(b.path)), page, progress)


def _page(
    a: RunFolder, b: RunFolder, comparison: Comparison, read_samples: ReadSamples | None, no_samples: str | None
) -> bytes:
    runs = a.require(), b.require()
    tables = a.read_scores(), b.read_scores()
    only = _only_chosen(tables) if comparison.overlap is not None else (np.empty(0, dtype=np.int64),) * 2
    shown = [rows[:MOST_OF_A_RUN] for rows in only]
    material = ComparisonMaterial(
        comparison=comparison,
        runs=(_facts(a, runs[0]), _facts(b, runs[1])),
        places=np.stack([_places(table, comparison.scored_in_both) for table in tables]),
        only=(_rows(shown[0], *tables), _rows(shown[1], *tables[::-1])),
        only_rows=(only[0].size, only[1].size),
        samples={} if read_samples is None else read_samples(np.concatenate(shown)),
        no_samples=no_samples,
    )
    names = [printable_line(name) for name in _names_apart(a.path, b.path)]
    subtitle = f"A is {names[0]}, B is {names[1]}; made by scalselect from the records of both"
    data = ", ".join(dict.fromkeys(str(segment.source) for segment in segments_of(runs[0])))
    return page_bytes(
        f"Two runs of {printable_line(data[:_LONGEST_NAME])}",
        subtitle,
        comparison_sections(material),
        style_files=_STYLES,
        script_files=(),
    )


def _facts(folder: RunFolder, run: Mapping[str, Any]) -> RunFacts:
    try:
        selection = folder.read_selection()
    except RunFolderError:  # none, or not as it was written: the rows themselves are in scores.parquet
        selection = None
    represent = run["represent"]
    budget = None if selection is None else str(selection["budget"]["asked"])
    return RunFacts(
        folder=str(folder.path),
        model=None if "representations" in represent else run.get("model"),
        created=run.get("created"),
        scored=folder.read_subspace().rows,
        budget=budget,
        strategy=None if selection is None else selection["strategy"],
    )


def _only_chosen(tables: tuple[pa.Table, pa.Table]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows with a score that one of the two alone chose, best rank first."""
    chosen = [
        pc.and_(pc.fill_null(table["selected"], fill_value=False), pc.equal(table["status"], "scored")).to_numpy(
            zero_copy_only=False
        )
        for table in tables
    ]
    found = []
    for table, here, there in zip(tables, chosen, chosen[::-1], strict=True):
        rows = np.flatnonzero(here & ~there).astype(np.int64)
        ranks = table["rank"].to_numpy(zero_copy_only=False)[rows]
        found.append(rows[np.argsort(ranks, kind="stable")])
    return found[0], found[1]


def _places(table: pa.Table, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each row in the falling order of the scores of these rows, from 0, int64 [rows]."""
    scores = table["leverage_score"].to_numpy()[rows]
    places = np.empty(rows.size, dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(rows.size)
    return places


def _rows(rows: NDArray[np.int64], here: pa.Table, there: pa.Table) -> tuple[RowInBoth, ...]:
    wanted = _lines(here, rows), _lines(there, rows)
    return tuple(
        RowInBoth(
            row=own["row"],
            source=own["source"],
            id=own["id"],
            score=own["leverage_score"],
            rank=own["rank"],
            other_score=other["leverage_score"],
            other_rank=other["rank"],
            other_reason=other["reason"],
        )
        for own, other in zip(*wanted, strict=True)
    )


def _lines(table: pa.Table, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = table.take(rows).to_pylist()
    return lines


def _names_apart(a: Path, b: Path) -> tuple[str, str]:
    """Return the ends of two paths from the last folder on in which they differ; of equal ones both whole."""
    parts = [path.absolute().as_posix().split("/") for path in (a, b)]
    for length in range(1, min(map(len, parts)) + 1):
        ends = ["/".join(names[-length:]) for names in parts]
        if ends[0] != ends[1]:
            return ends[0], ends[1]
    return str(a.absolute()), str(b.absolute())


def _name_of(path: Path) -> str:
    """Return the name of a folder, short enough for a part of the name of a file."""
    name = path.absolute().name or "run"
    return name.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore")

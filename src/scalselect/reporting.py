"""The Python API of reports: the page that shows a run, made from what the run folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.comparison_report import comparison_page
from scalselect.progress import Silent
from scalselect.report_place import write_page
from scalselect.report_work import report_bytes
from scalselect.reported_records import reported_records
from scalselect.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from scalselect.progress import Progress


def report(
    run_dir: str | Path,
    other: str | Path | None = None,
    *,
    dataset: Any = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page of a run: one file that any browser shows, without the model and without a network.

    Parameters
    ----------
    run_dir
        The run folder. A run in which nothing was scored or selected yet has a page as well, of what is known.
    other
        A second run of the same data, to show the two side by side; both must have scores. See `scalselect.compare`.
    dataset
        As in `scalselect.select`: the records of a run that was given a Python list, or data that have moved. Without
        them the page has no pictures and conversations, and says why.
    output
        File to write, replaced where it exists; default: `report.html` in the run folder; of two runs
        `report_with_NAME.html` in the folder of the first, NAME that of the second.

    Returns
    -------
    The file that was written.

    Raises
    ------
    OptionError
        If `output` is a folder, or a file that is no page.
    DatasetError
        If `dataset` is given and holds not the data of the run.
    RunFolderError
        If this is no run folder, or its records do not belong to one another; of two runs, if they are not of the same
        data.
    """
    if other is not None:
        return comparison_page(run_dir, other, dataset=dataset, output=output, progress=progress)
    folder = RunFolder(run_dir)
    run = folder.require()
    progress = progress or Silent()
    read_samples, no_samples = reported_records(run, dataset)

    def page() -> bytes:
        progress.say("writing the report")
        return report_bytes(folder, read_samples, no_samples)

    return write_page(folder, output, folder.report, page, progress)

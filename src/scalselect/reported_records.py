"""The records of a run, for pages that show some of them: what reads them, or why they cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.errors import ScalselectError
from scalselect.pool_of_run import pool_of_run
from scalselect.report_work import NO_RECORDS, samples_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.report_work import ReadSamples


def reported_records(run: Mapping[str, Any], dataset: Any) -> tuple[ReadSamples | None, str | None]:
    """Return what reads samples of a run; without records None, and why in words.

    Parameters
    ----------
    run
        The content of run.json.
    dataset
        See `scalselect.pool_of_run.pool_of_run`. What is wrong with data that were given is raised.
    """
    try:
        pool = pool_of_run(run, dataset)
    except (ScalselectError, OSError) as error:  # gone, changed, or in a store that cannot be reached
        if dataset is not None:
            raise
        return None, str(error)
    if pool is None:
        return None, NO_RECORDS
    return samples_reader(pool, run), None

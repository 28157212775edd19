"""Why rows have no score whose process died or hung while they were made ready: a reason and a detail of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.records import Reason

if TYPE_CHECKING:
    from scalselect.engines.processes import Loss


def reason_of_loss(loss: Loss) -> tuple[Reason, str]:
    """Return why a row is lost that cost its process, also in one that did nothing else."""
    if loss.killed:  # by the system, which kills what takes the last of the memory
        return Reason.OUT_OF_MEMORY, f"{loss}, as happens where memory runs out"
    if loss.seconds is not None:
        return Reason.PREPARATION_TIMED_OUT, f"{loss} (sample_seconds) to be made ready"
    return Reason.PREPARATION_CRASHED, f"{loss} while it was made ready"

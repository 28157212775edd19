"""Groups of samples made ready beside the model, in processes kept for the whole run, or here.

A sample that crashes its process or hangs becomes a row with a reason. The others of its group are made ready without
it, as one group: what they share they still share, so that their batches and vectors are those of any other run.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from scalselect.engines.processes import Loss, Narrowed, Processes
from scalselect.errors import ShardError
from scalselect.failures import SAMPLE_MEMORY_ADVICE
from scalselect.lost_rows import reason_of_loss
from scalselect.records import Reason
from scalselect.sample_work import PreparationFacts, new_record, skipped
from scalselect.vlm.loader import PackedPreparation, arrived, begin_in_a_fork, quiet_fork

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import Any

    from scalselect.records import Sample
    from scalselect.sample_work import SampleWork
    from scalselect.vlm.batches import PreparedSample


class GroupPreparation:
    """Makes groups of samples ready, in order.

    Parameters
    ----------
    processes
        Number of processes, started with the first group; 0 does it here, where a crash is one of the whole run and
        nothing limits the time.
    seconds
        Longest time that a sample may take, or the images of a group.
    """

    def __init__(self, work: SampleWork, *, processes: int, seconds: float) -> None:
        self._work = work
        self._kept: Processes[list[Sample], Any] | None = None
        if processes:
            self._kept = Processes(
                PackedPreparation(work),
                processes,
                narrowed=narrowed_group,
                lost=self._lost,
                seconds=seconds,
                begin=begin_in_a_fork,
                around_start=quiet_fork,
            )

    def results(
        self, groups: Sequence[list[Sample]]
    ) -> Generator[tuple[list[PreparedSample | None], PreparationFacts], None, None]:
        """Yield prepared samples (None: cannot be represented) and facts of each group, in order.

        Of a group that lost a sample come the others first, then what is lost.

        Raises
        ------
        ShardError
            If the memory runs out, and such samples are not to be skipped.
        MisuseError, OSError
            What concerns every sample.
        """
        if self._kept is None:
            yield from map(self._work, groups)
            return
        with closing(self._kept.results(groups)) as results:
            for samples, facts in results:
                yield arrived(samples), facts

    def close(self) -> None:
        """End the processes."""
        if self._kept is not None:
            self._kept.close()

    def _lost(self, group: list[Sample], loss: Loss) -> tuple[list[PreparedSample | None], PreparationFacts]:
        reason, detail = reason_of_loss(loss)
        if reason is Reason.OUT_OF_MEMORY and not self._work.skip_oom:
            rows = ", ".join(str(sample.identity.row) for sample in group)
            raise ShardError(
                f"the process that made row {rows} ready was killed, alone as well, most likely for want of memory: "
                f"{SAMPLE_MEMORY_ADVICE}"
            )
        records = [skipped(new_record(sample), reason, detail) for sample in group]
        return [None] * len(group), PreparationFacts(records)


def narrowed_group(group: list[Sample], part: int) -> Narrowed[list[Sample]]:
    """Part a group that failed: the sample under way, and the others as one group; all, where images were opened."""
    others = [sample for number, sample in enumerate(group) if number != part]
    if part < 0 or not others:
        return Narrowed([], group, [])
    return Narrowed([others], [group[part]], [])

"""Processes that a launcher started side by side, each of which knows its number: torchrun, Slurm, MPI and the like.

They need no connection to one another. Process r of n does the tasks k with ``k % n == r``, then sweeps up what is
missing of the others: of a process that died, or is slow. So a task is lost only where no process is left, and a start
with another number of processes goes on where the last one ended. Where two meet at a task is for the work to settle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalselect.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

# Number, number of processes, number on this machine, processes on this machine. The first set that is whole counts.
_LAUNCHERS = (
    ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),  # accelerate and most others set the same
    (
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_TASKS_PER_NODE"),
    ("MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)


@dataclass(frozen=True, slots=True)
class Rank:
    """Which of several processes this one is.

    Attributes
    ----------
    launcher
        Who started them, in a word.
    number, world
        Number of this process among all, from 0, and how many there are.
    local, local_world
        The same on this machine.
    """

    launcher: str
    number: int
    world: int
    local: int
    local_world: int

    def __str__(self) -> str:
        return f"process {self.number} of {self.world} that {self.launcher} started"


def rank_of_environment(environment: Mapping[str, str] | None = None) -> Rank | None:
    """Return which process of a launcher's this one is, by the variables that launchers set; None where it is alone.

    Parameters
    ----------
    environment
        Default: that of this process.

    Raises
    ------
    OptionError
        If the variables contradict one another.
    """
    environment = os.environ if environment is None else environment
    for launcher, *names in _LAUNCHERS:
        if launcher == "Slurm" and "SLURM_STEP_ID" not in environment:
            continue  # a batch script that runs on the first node alone has the variables of its whole job
        number, world = (_number(environment, name) for name in names[:2])
        if number is None or world is None:
            given = [environment.get(name, "") for name in names[:2]]
            if all(given) and launcher == "torchrun":
                raise OptionError(
                    f"{names[0]} and {names[1]} must be whole numbers: {given[0]!r} and {given[1]!r}; unset both to "
                    "work alone"
                )
            continue
        if not 0 <= number < world:
            raise OptionError(
                f"{names[0]} must lie between 0 and {names[1]} - 1: {number} and {world}; unset both to work alone"
            )
        if world == 1:
            return None
        local, local_world = (_number(environment, name) for name in names[2:])
        local = number if local is None else local  # one machine, as far as is known
        return Rank(launcher, number, world, local, max(local_world or world, local + 1))
    return None


def own_then_others(
    rank: Rank, tasks: Iterable[int], still_missing: Callable[[Iterable[int]], Collection[int]]
) -> Iterator[int]:
    """Yield the tasks of a process, ascending, then those of the others that are missing, from the last to the first.

    From the end, because the others work towards it: whoever is done early meets them as late as can be.

    Parameters
    ----------
    tasks
        All tasks of the job that are to be done.
    still_missing
        Returns those of some tasks that nobody has done yet; asked once this process has done its own.
    """
    others = []
    for task in tasks:
        if task % rank.world == rank.number:
            yield task
        else:
            others.append(task)
    missing = still_missing(others) if others else ()
    for task in reversed(others):
        if task in missing:
            yield task


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number at the head of a variable (Slurm writes `4(x2)`); None where there is none."""
    word = environment.get(name, "").split("(")[0].split(",")[0].strip()
    return int(word) if word.isdecimal() else None

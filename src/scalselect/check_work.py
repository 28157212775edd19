"""A check of a whole pool: ranges of rows looked at in parallel, findings put together in the order of the rows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scalselect.dataset.file_rules import FieldKinds, faults_of_file
from scalselect.dataset.trainer_rules import effect_of
from scalselect.dataset.validation import Findings, Problem
from scalselect.engines.processes import Narrowed, results_in_order
from scalselect.failures import SAMPLE_MEMORY_ADVICE
from scalselect.lost_rows import reason_of_loss
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.validation import RowChecker
    from scalselect.engines.processes import Loss
    from scalselect.progress import Progress

_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_COUNTED = (
    "rows",
    "text_only",
    "unusable",
    "images",
    "image_bytes",
    "images_in_front",
    "content_parts",
    "exif_rotated",
    "alpha",
    "truncated",
    "escaped",
)
_REASONS = frozenset(str(reason) for reason in Reason)


@dataclass(slots=True)
class CheckedPool:
    """What was found of a pool.

    Attributes
    ----------
    kinds
        Number of problems by kind and effect.
    examples
        The first problems of each kind and effect.
    counts
        See `Findings`.
    lengths
        Quantiles of tokens and vision tokens a sample, by word, where a model was named.
    repeated_ids
        Ids that several rows have; and rows that have such an id.
    seconds
        Wall-clock seconds.
    """

    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    repeated_ids: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    @property
    def problems(self) -> int:
        """Number of all problems."""
        return sum(self.kinds.values())


def check_rows(
    pool: JoinedPool,
    checker: RowChecker,
    *,
    like: str | None,
    processes: int,
    seconds: float,
    rows_a_task: int,
    keep: int,
    on_problem: Callable[[Problem], None],
    progress: Progress,
) -> CheckedPool:
    """Look at every row of a pool.

    Parameters
    ----------
    like
        Trainer whose rules for whole files are applied, or None.
    processes
        Number of processes; 0 does all of it here.
    seconds
        Longest time that a row may take in a process.
    keep
        Problems of each kind that are kept as examples.
    on_problem
        Called with every problem, in the order of the rows; those of whole data sets come last.

    Raises
    ------
    DataChangedError
        If the data are changed meanwhile.
    """
    began = time.perf_counter()
    found = CheckedPool()
    kinds: dict[int, FieldKinds] = {}
    ids, tokens, vision = [], [], []

    def take(problem: Problem) -> None:
        if problem.kind == Reason.OUT_OF_MEMORY:
            problem = replace(problem, detail=f"{problem.detail}: {SAMPLE_MEMORY_ADVICE}")
        kind = (problem.kind, problem.effect)
        found.kinds[kind] = found.kinds.get(kind, 0) + 1
        if found.kinds[kind] <= keep:
            found.examples.append(problem)
        on_problem(problem)

    progress.start(len(pool), 0, 0)
    results = results_in_order(
        checker,
        _tasks(pool, rows_a_task),
        processes,
        narrowed=narrowed_rows,
        lost=lambda rows, loss: _findings_of_lost(pool, rows, loss, like),
        seconds=seconds,
    )
    for findings in results:
        for problem in findings.problems:
            take(problem)
        for name, number in findings.counts.items():
            found.counts[name] += number
        for part, kinds_here in findings.kinds.items():
            kinds.setdefault(part, FieldKinds()).merge(kinds_here)
        ids.append(findings.ids)
        tokens.append(findings.tokens)
        vision.append(findings.vision_tokens)
        _tell(progress, findings)
    progress.stop()
    for problem in _problems_of_files(pool, like, kinds):
        take(problem)
    found.repeated_ids = _repeated(np.concatenate(ids))
    found.lengths = _lengths(np.concatenate(tokens), np.concatenate(vision))
    found.seconds = time.perf_counter() - began
    return found


def _tell(progress: Progress, findings: Findings) -> None:
    bad = len({problem.row for problem in findings.problems if problem.kind in _REASONS})
    for number in range(findings.counts.get("rows", 0)):
        progress.row("skipped" if number < bad else "checked")


def _tasks(pool: JoinedPool, rows: int) -> Iterator[range]:
    """Yield ranges of rows, none across two data sets."""
    for part in range(len(pool.parts)):
        span = pool.rows_of(part)
        for begin in range(span.start, span.stop, rows):
            yield range(begin, min(begin + rows, span.stop))


def narrowed_rows(rows: range, row: int) -> Narrowed[range]:
    """Part rows that failed: the row that was looked at, and those before and behind it; halves where none was."""
    if len(rows) == 1:
        return Narrowed([], rows, [])
    if row not in rows:
        middle = len(rows) // 2
        return Narrowed([rows[:middle], rows[middle:]], None, [])
    place = rows.index(row)
    before, after = rows[:place], rows[place + 1 :]
    return Narrowed([before] if before else [], rows[place : place + 1], [after] if after else [])


def _findings_of_lost(pool: JoinedPool, rows: range, loss: Loss, like: str | None) -> Findings:
    identity = pool.identity(rows.start)
    reason, detail = reason_of_loss(loss)
    problem = Problem(identity.row, identity.source, identity.id, str(reason), effect_of(reason, like), detail)
    return Findings([problem], {"rows": 1}, np.zeros(1, dtype=np.uint64))


def _problems_of_files(pool: JoinedPool, like: str | None, kinds: dict[int, FieldKinds]) -> Iterator[Problem]:
    if like is None:
        return
    for number, part in enumerate(pool.parts):
        for fault in faults_of_file(like, part.container, part.record_format, kinds.get(number, FieldKinds())):
            yield Problem(None, part.source, None, fault.kind, fault.effect, fault.detail)


def _repeated(ids: NDArray[np.uint64]) -> tuple[int, int]:
    _, counts = np.unique(ids[ids > 0], return_counts=True)
    several = counts[counts > 1]
    return len(several), int(several.sum())


def _lengths(tokens: NDArray[np.int32], vision: NDArray[np.int32]) -> dict[str, dict[str, float]]:
    if not len(tokens):
        return {}
    return {
        name: {
            f"{share:.0%}": float(value)
            for share, value in zip(_QUANTILES, np.quantile(values, _QUANTILES, method="lower"), strict=True)
        }
        for name, values in (("tokens", tokens), ("vision_tokens", vision))
    }

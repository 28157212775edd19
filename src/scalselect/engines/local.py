"""Run tasks one after another in this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from scalselect.engines.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Task = TypeVar("Task")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def run_tasks(
    tasks: Iterable[Task],
    work: Callable[[Task], Result],
    *,
    attempts: int = 3,
    worth_retrying: Callable[[Exception], bool] = lambda _error: True,
    fatal: tuple[type[Exception], ...] = (),
) -> Iterator[Outcome[Task, Result]]:
    """Yield the outcome of every task, in order; a failing task is tried again and does not stop the others.

    Parameters
    ----------
    worth_retrying
        Tells whether another attempt could end differently.
    fatal
        Exceptions that concern all tasks; they are raised at once.

    Raises
    ------
    ValueError
        If `attempts` is below 1.
    """
    if attempts < 1:
        raise ValueError(f"a task needs at least one attempt: {attempts}")
    for task in tasks:
        for attempt in range(1, attempts + 1):
            try:
                yield Outcome(task, work(task), None, attempt)
            except fatal:
                raise
            except Exception as error:  # noqa: BLE001  told to the caller, task by task
                _log.debug("task %s failed at attempt %d", task, attempt, exc_info=True)
                if attempt < attempts and worth_retrying(error):
                    continue
                yield Outcome(task, None, error, attempt)
            break

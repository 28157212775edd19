"""What becomes of tasks, wherever they are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """What became of one task: a result, or the error of its last attempt."""

    task: Task
    result: Result | None
    error: Exception | None
    attempts: int

"""What is done about tasks that fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """What is done about tasks that fail.

    Attributes
    ----------
    attempts
        Of a task, before it counts as failed.
    worth_retrying
        Tells whether another attempt could end differently.
    fatal
        Exceptions that concern all tasks; they are raised at once.
    """

    attempts: int = 3
    worth_retrying: Callable[[Exception], bool] = lambda _error: True
    fatal: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if `attempts` is below 1."""
        if self.attempts < 1:
            raise ValueError(f"a task needs at least one attempt: {self.attempts}")

    def as_options(self) -> dict[str, Any]:
        """Return it as the options of `scalselect.engines.local.run_tasks`."""
        return {"attempts": self.attempts, "worth_retrying": self.worth_retrying, "fatal": self.fatal}

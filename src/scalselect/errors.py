"""Every exception of the package, drawn as a tree.

::

    ScalselectError
    ├── MisuseError              raised before any work starts; the command exits with 2
    │   ├── OptionError          an option, its value, or a combination of options
    │   ├── DatasetError         a data file or image folder that cannot be used as a whole
    │   ├── ModelError           a checkpoint that is missing, incomplete or not supported
    │   └── RunFolderError       a run folder that belongs to another run, or cannot be used
    ├── WorkError                work was started and failed; the command exits with 1
    │   ├── ShardError           one shard could not be represented
    │   ├── BudgetError          fewer eligible rows than the budget asks for
    │   ├── TooManySkippedError  more rows skipped than ``max_skipped`` allows
    │   ├── DataChangedError     the data file changed while work was under way
    │   └── DamagedFileError     a file of the run folder is not what was published
    │       └── DamagedShardError  one of a shard: it can be represented again
    └── SampleError              one bad sample: becomes a row with a reason, never leaves the package

    ScalselectWarning            something the user should know and may act upon
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalselect.records import Reason


class ScalselectError(Exception):
    """Base class of everything this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes an equal one in another process, whatever its constructor asks for."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ScalselectError], words: tuple[Any, ...], facts: dict[str, Any]) -> ScalselectError:
    error = kind.__new__(kind)
    error.args = words
    error.__dict__.update(facts)
    return error


class MisuseError(ScalselectError):
    """The call cannot be right: nothing was started and nothing was written."""


class OptionError(MisuseError):
    """An option, its value, or a combination of options is wrong."""


class DatasetError(MisuseError):
    """A data file or image folder cannot be used as a whole."""


class ModelError(MisuseError):
    """A checkpoint is missing, incomplete or not supported."""


class RunFolderError(MisuseError):
    """A run folder belongs to another run, or cannot be used."""


class WorkError(ScalselectError):
    """Work was started and failed; what was published stays valid."""


class ShardError(WorkError):
    """One shard could not be represented."""


class BudgetError(WorkError):
    """Fewer eligible rows than the budget asks for.

    Attributes
    ----------
    possible
        A number of rows that can be chosen; None where there is none.
    """

    def __init__(self, message: str, possible: int | None = None) -> None:
        super().__init__(message)
        self.possible = possible


class TooManySkippedError(WorkError):
    """More rows were skipped than ``max_skipped`` allows."""


class DataChangedError(WorkError):
    """The data file changed while work was under way."""


class DamagedFileError(WorkError):
    """A file of the run folder is not what was published."""


class DamagedShardError(DamagedFileError):
    """A file of a shard is missing, or not what was published.

    Attributes
    ----------
    shard
        Number of the shard, which can be represented again.
    """

    def __init__(self, message: str, shard: int) -> None:
        super().__init__(message)
        self.shard = shard


class SampleError(ScalselectError):
    """One sample cannot be used; it becomes a row with this reason.

    Attributes
    ----------
    reason
        A word of the fixed vocabulary, `scalselect.records.Reason`.
    detail
        What exactly was wrong, in words, for people.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ScalselectWarning(UserWarning):
    """Something the user should know and may act upon."""


def did_you_mean(received: str, known: Iterable[str]) -> str:
    """Return `` (did you mean `near`?)`` for a near name among `known`, else an empty string."""
    near = difflib.get_close_matches(received, list(known), n=1, cutoff=0.6)
    return f" (did you mean `{near[0]}`?)" if near else ""

"""What runs in the process of a Ray worker, and in a process beside it.

Values travel as pickles of ours: an error keeps its type, and arrays of a result are private and writable, as those of
the other engines are.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from scalselect.errors import WorkError
from scalselect.process_mark import mark_of, new_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Place(NamedTuple):
    """Where a worker lives.

    Attributes
    ----------
    node
        Ray's id of the node.
    address
        Of the node.
    mark
        Of the process, as `scalselect.process_mark` writes it.
    """

    node: str
    address: str
    mark: str


class Actor:
    """What lives in the process of a worker. Ray runs one method at a time, in the main thread."""

    _work: Callable[[Any], Any]

    def place(self) -> Place:
        """Return where the worker lives; it has a place as soon as this is answered."""
        import ray  # noqa: PLC0415

        return Place(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), str(new_mark()))

    def begin(self, begin: bytes, worker: int) -> bytes:
        """Begin with what was pickled; return the facts, as `_told` does."""

        def begun() -> Any:
            self._work, facts = pickle.loads(begin)(worker)  # noqa: S301  from the driver
            return facts

        return _told(begun)

    def do(self, task: bytes) -> bytes:
        """Do a pickled task; return the result, as `_told` does."""
        return _told(lambda: self._work(pickle.loads(task)))  # noqa: S301  from the driver

    def leave(self) -> None:
        """Let the work clean up, where it has a method `close`."""
        close = getattr(getattr(self, "_work", None), "close", None)
        if close is not None:
            close()


def _told(work: Callable[[], Any]) -> bytes:
    """Return what came of the work, pickled: whether it is a result, that or the error pickled, and the error in words.

    The words are for a driver that cannot unpickle the error.
    """
    from ray import cloudpickle  # noqa: PLC0415

    try:
        return pickle.dumps((True, cloudpickle.dumps(work()), ""))
    except Exception as error:  # noqa: BLE001  told where the result is awaited
        words = f"{type(error).__name__}: {error}"
        try:
            pickled = cloudpickle.dumps(error)
            pickle.loads(pickled)  # noqa: S301  our own
        except Exception:  # noqa: BLE001  an exception whose arguments cannot be sent
            pickled = pickle.dumps(WorkError(words))
        return pickle.dumps((False, pickled, words))
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001  an interrupt, or a library's panic: the process is not to be trusted any more
        os._exit(1)


def ask_to_leave(marks: Sequence[str]) -> None:
    """Send SIGTERM to processes of this node, which Ray turns into SystemExit: their work cleans up."""
    for mark in map(mark_of, marks):
        if mark is not None and mark.is_here and not mark.is_dead:
            with contextlib.suppress(OSError):
                os.kill(mark.process, signal.SIGTERM)

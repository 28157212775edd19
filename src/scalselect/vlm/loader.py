"""Samples made ready in processes of their own, beside the model, and handed over in order.

PyTorch's DataLoader runs the processes: forked, so that nothing is started anew, and each with one thread. Large
tensors come through shared memory and are copied out of it at once; small ones come by value.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scalselect.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from types import TracebackType

    from scalselect.vlm.batches import PreparedSample

Group = TypeVar("Group")
Facts = TypeVar("Facts")

_BY_VALUE_BELOW = 2**16  # bytes; a segment of shared memory costs more than to send these
_SHARED_MEMORY_NEEDED = 2**28  # bytes that must be free; containers often have 64 MB
_GROUPS_AHEAD = 4  # that each process works ahead
_TRIES_TO_END = 3
_KILLED = (
    "a process that prepares samples was killed, most likely for want of memory; fewer --dataloader-workers need less"
)
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGNAL_AT_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl

can_fork = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


def prepared_in_order(
    groups: Sequence[Group],
    prepare: Callable[[Group], tuple[list[PreparedSample | None], Facts]],
    processes: int,
) -> Generator[tuple[list[PreparedSample | None], Facts], None, None]:
    """Yield what `prepare` makes of every group, in order.

    Parameters
    ----------
    prepare
        Returns the prepared samples of a group, and facts that can be pickled.
    processes
        Number of processes that work ahead; 0 prepares each group here, when it is asked for.

    Raises
    ------
    Exception
        Whatever `prepare` raises, in this process.
    WorkError
        If a process was killed.
    """
    if not processes or not groups:
        yield from map(prepare, groups)
        return
    try:
        yield from _from_processes(groups, prepare, processes)
    except RuntimeError as error:
        if not _tells_of_a_death(error):
            raise
        raise WorkError(f"{_KILLED} ({error})") from error


def _from_processes(
    groups: Sequence[Group],
    prepare: Callable[[Group], tuple[list[PreparedSample | None], Facts]],
    processes: int,
) -> Generator[tuple[list[PreparedSample | None], Facts], None, None]:
    loader: DataLoader[Any] = DataLoader(
        _Groups(groups, prepare, by_value=not _has_shared_memory()),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=min(processes, len(groups)),
        prefetch_factor=_GROUPS_AHEAD,
        multiprocessing_context="fork",
        worker_init_fn=_begin,
    )
    others = set(multiprocessing.active_children())
    results: Any = None
    try:
        with _quiet_fork(), _signals_held():
            results = iter(loader)
        while True:
            try:
                result = next(results, None)
            except (RuntimeError, OSError, EOFError) as error:
                # A process that is gone, or was while it handed a tensor over; errors of `prepare` come as results.
                raise WorkError(f"{_KILLED} ({error})") from error
            if result is None:
                return
            if isinstance(result, _Failed):
                raise result.error
            samples, facts = result
            yield _arrived(samples), facts
    finally:
        with _signals_held():
            if results is not None:
                _shut_down(results)
            for process in set(multiprocessing.active_children()) - others:  # of a start that failed half-way
                process.kill()


def _shut_down(results: Any) -> None:
    """End the processes; not left to the iterator's end of life, which an exception on its way holds off.

    PyTorch tells of a process that was killed by an exception out of a signal handler, at any moment, also this one.
    """
    for _ in range(_TRIES_TO_END):
        try:
            results._shutdown_workers()  # noqa: SLF001  PyTorch has no public way
        except RuntimeError as error:
            if not _tells_of_a_death(error):
                raise
        else:
            return


def _tells_of_a_death(error: RuntimeError) -> bool:
    return "DataLoader worker" in str(error)


class _Groups(Dataset[Any], Generic[Group, Facts]):
    def __init__(
        self,
        groups: Sequence[Group],
        prepare: Callable[[Group], tuple[list[PreparedSample | None], Facts]],
        *,
        by_value: bool,
    ) -> None:
        self._groups = groups
        self._prepare = prepare
        self._by_value = by_value

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> tuple[list[Any], Facts] | _Failed:
        try:
            samples, facts = self._prepare(self._groups[number])
        except Exception as error:  # noqa: BLE001  raised again where the model runs, as it is
            return _Failed(_picklable(error))
        return _packed(samples, by_value=self._by_value), facts


def _begin(_worker: int) -> None:
    # Ctrl-C reaches the whole group of processes; the one that runs the model ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # so does the end of a terminal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Should that one be killed, nobody reads on, and a process that waits to hand something over would wait for ever.
    ctypes.CDLL(None).prctl(_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it was killed a moment ago
        os._exit(1)
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what went wrong in a process, but not that nobody takes its tensors any more: the run has ended."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _as_it_is(result: Any) -> Any:
    return result


@contextlib.contextmanager
def _quiet_fork() -> Iterator[None]:
    """Keep the tokenizers library from warning of a fork: one text at a time needs no threads."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back signals that end a run until the block is left.

    What their handlers raise while a process is forked is lost: Python ignores exceptions of the functions that it
    calls before and after a fork. Raised while processes are started or ended, it would leave some of them behind.
    A mask would not do: it holds for one thread, and the system hands a signal to any.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are handled in the main thread alone
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in handlers.items():
        if handler is not None:  # None: one that Python did not set
            signal.signal(number, lambda came_as, _frame: came.append(came_as))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _has_shared_memory() -> bool:
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108  where the system keeps it
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= _SHARED_MEMORY_NEEDED


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    except Exception:  # noqa: BLE001  an exception whose arguments cannot be sent
        return WorkError(f"{type(error).__name__}: {error}")
    return error


def _packed(samples: Sequence[PreparedSample | None], *, by_value: bool) -> list[PreparedSample | None]:
    """Return samples with arrays in place of the tensors that are sent by value; what they share is sent once."""
    packed: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Any:
        if id(tensor) not in packed:
            small = (by_value or tensor.nbytes < _BY_VALUE_BELOW) and tensor.dtype != torch.bfloat16
            packed[id(tensor)] = tensor.numpy() if small else tensor
        return packed[id(tensor)]

    return _changed(samples, pack)


def _arrived(samples: Sequence[PreparedSample | None]) -> list[PreparedSample | None]:
    """Return samples of private tensors; what several of them share is copied once."""
    copies: dict[int, Tensor] = {}

    def unpack(value: Any) -> Tensor:
        if id(value) not in copies:
            copies[id(value)] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value.clone()
        return copies[id(value)]

    return _changed(samples, unpack)


def _changed(samples: Sequence[PreparedSample | None], change: Callable[[Any], Any]) -> list[PreparedSample | None]:
    return [
        None
        if sample is None
        else replace(
            sample,
            inputs={name: change(value) for name, value in sample.inputs.items()},
            instruction=change(sample.instruction),
            vision=change(sample.vision),
        )
        for sample in samples
    ]

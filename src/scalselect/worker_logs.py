"""Logs of workers in the run folder: `logs/worker-003-HOST-PID.log`, what is told in a worker and on what it ended.

Into it go what the package logs, warnings of Python and of libraries, and where asked for all that the process writes
to stdout and stderr, by whatever means: so the last words of a library, or the traceback of a crash, are kept. A log
that cannot be written is told once, on the stderr that the worker had, and ends nothing. In an object store, where
nothing can be appended, the log is a local file that is sent whole while it grows, and at the end.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import faulthandler
import io
import logging
import os
import re
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from scalselect.local_copies import staged_file
from scalselect.printable import printable, printable_line
from scalselect.remote_path import as_remote
from scalselect.time_shares import work_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scalselect.remote_path import RemotePath
    from scalselect.shard_report import ShardReport

_SECONDS_UNTIL_UPLOAD, _SECONDS_BETWEEN_UPLOADS = 2.0, 30.0  # the first; all others
_ODD = re.compile(r"[^\w.-]")  # in names of hosts
_OURS = "scalselect"
_STDOUT, _STDERR = 1, 2

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def worker_log(folder: Path, worker: int, *, redirect_descriptors: bool) -> Iterator[None]:
    """Keep a log of this process, a worker, during the block.

    Parameters
    ----------
    folder
        The `logs` folder of a run, local or in an object store; made where it is missing.
    worker
        Number of the worker.
    redirect_descriptors
        Whether stdout and stderr of the process go into the log too, for those of its children as well. Not for a
        process whose words somebody else awaits.
    """
    with contextlib.ExitStack() as stack:
        told = _Trouble(folder)
        stack.callback(told.close)
        try:
            place = _place(folder, worker, stack, told)
            target = _Target(place, told)
        except OSError as error:
            told.once(error)
        else:
            stack.callback(target.close)
            _listen(stack, target, alone=redirect_descriptors)
            if redirect_descriptors:
                _redirect(stack, target)
        _log.info("worker %d begins: %s, process %d", worker, socket.gethostname(), os.getpid())
        try:
            yield
        except BaseException as error:
            _log.info("worker %d ends: %s", worker, type(error).__name__, exc_info=isinstance(error, Exception))
            raise
        _log.info("worker %d ends", worker)


def log_shard(report: ShardReport) -> None:
    """Log what became of a shard, and how long it took by stage."""
    rows = report.stop - report.start
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(report.counts.items()))
    seconds = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in sorted(report.seconds.items()))
    rate = rows / max(work_seconds(report.seconds), 1e-9)
    _log.info("shard %d: %s; %s; %.1f rows/s", report.shard, counts, seconds, rate)


class _Trouble:
    """Tells once, on the stderr that the process had at first, that a log cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told = False
        self._stderr: int | None = None
        with contextlib.suppress(OSError):
            self._stderr = os.dup(_STDERR)

    def once(self, error: OSError) -> None:
        if self._told or self._stderr is None:
            return
        self._told = True
        line = f"warning: log of a worker cannot be written: {self._folder} ({error.strerror or error}); it works on"
        with contextlib.suppress(OSError):
            os.write(self._stderr, (printable_line(line) + "\n").encode(errors="backslashreplace"))

    def close(self) -> None:
        stderr, self._stderr = self._stderr, None
        if stderr is not None:
            os.close(stderr)


class _Target:
    """The file of a log, appended to. What cannot be written, also after its end, is lost, and raises nothing."""

    def __init__(self, place: Path, told: _Trouble) -> None:
        self._told = told
        self.descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def write(self, content: memoryview) -> None:
        try:
            while content:
                content = content[os.write(self.descriptor, content) :]
        except OSError as error:
            self._told.once(error)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1  # whoever holds a stream still must not write elsewhere
        os.close(descriptor)

    def text(self) -> io.TextIOWrapper:
        """Return a stream for texts, each of which is written at once."""
        return io.TextIOWrapper(_Through(self), "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[arg-type]


class _Through(io.RawIOBase):
    """A stream of bytes into a log, which stays open when the stream is closed."""

    def __init__(self, target: _Target) -> None:
        super().__init__()
        self._target = target

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._target.descriptor

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self._target.write(view)
        return len(view)


class _Lines(logging.Formatter):
    """A record as lines with the time of day in UTC, made fit to be shown."""

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="seconds")
        head = f"{moment.removesuffix('+00:00')}Z {record.levelname.lower()}"
        return "\n".join(f"{head} {line}" for line in printable(super().format(record)).split("\n"))


def _worth_keeping(record: logging.LogRecord) -> bool:
    ours = record.name == _OURS or record.name.startswith(f"{_OURS}.")
    return record.levelno >= (logging.INFO if ours else logging.WARNING)


def _listen(stack: contextlib.ExitStack, target: _Target, *, alone: bool) -> None:
    """Let all that is logged, and warnings, go into the log; unless it is `alone`, also where they went before."""
    handler = logging.StreamHandler(target.text())
    handler.setFormatter(_Lines())
    handler.addFilter(_worth_keeping)
    root, ours = logging.getLogger(), logging.getLogger(_OURS)
    handlers: list[logging.Handler] = [handler]
    if not alone and not root.handlers and logging.lastResort is not None:
        handlers.append(logging.lastResort)  # it is silent as soon as there is any other
    for one in handlers:
        root.addHandler(one)
        stack.callback(root.removeHandler, one)
    stack.callback(ours.setLevel, ours.level)
    if not ours.isEnabledFor(logging.INFO):
        ours.setLevel(logging.INFO)
    stack.callback(setattr, warnings, "showwarning", warnings.showwarning)
    warnings.showwarning = _logged_warning(None if alone else warnings.showwarning)


def _logged_warning(before: Callable[..., None] | None) -> Callable[..., None]:
    log = logging.getLogger("py.warnings")

    def show(message: object, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
        if before is not None:
            before(message, category, filename, lineno, *rest)
        record = log.makeRecord(log.name, logging.WARNING, filename, lineno, "%s: %s (%s:%d)", (), None)
        record.args = (category.__name__, str(message), filename, lineno)
        log.handle(record)

    return show


def _redirect(stack: contextlib.ExitStack, target: _Target) -> None:
    """Let stdout and stderr, of Python and of the process, go into the log until the end."""
    for name, descriptor in (("stdout", _STDOUT), ("stderr", _STDERR)):
        stream = getattr(sys, name)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
        try:
            kept: int | None = os.dup(descriptor)
        except OSError:  # it is closed
            kept = None
        os.dup2(target.descriptor, descriptor)
        own = target.text()
        setattr(sys, name, own)
        stack.callback(_restore, name, descriptor, stream, kept)
    if not faulthandler.is_enabled():
        faulthandler.enable(_STDERR)
        stack.callback(faulthandler.disable)


def _restore(name: str, descriptor: int, stream: object, kept: int | None) -> None:
    setattr(sys, name, stream)
    if kept is None:
        os.close(descriptor)
    else:
        os.dup2(kept, descriptor)
        os.close(kept)


def _place(folder: Path, worker: int, stack: contextlib.ExitStack, told: _Trouble) -> Path:
    """Return the local file of a log; one that belongs into an object store is sent there until the end."""
    host = _ODD.sub("_", socket.gethostname())
    path = folder / f"worker-{worker:03d}-{host}-{os.getpid()}.log"
    remote = as_remote(path)
    if remote is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
    place = stack.enter_context(staged_file())
    with contextlib.suppress(FileNotFoundError):  # of a process of the same number before: containers have few numbers
        place.write_bytes(remote.read_bytes())
    sender = _Sender(place, remote, told)
    stack.callback(sender.close)
    return place


class _Sender:
    """Sends a growing file to an object store, in a thread of its own."""

    def __init__(self, place: Path, remote: RemotePath, told: _Trouble) -> None:
        self._place, self._remote, self._told = place, remote, told
        self._sent = -1
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is new, for the last time."""
        self._ending.set()
        self._thread.join()
        self._send()

    def _run(self) -> None:
        seconds = _SECONDS_UNTIL_UPLOAD
        while not self._ending.wait(seconds):
            self._send()
            seconds = _SECONDS_BETWEEN_UPLOADS

    def _send(self) -> None:
        try:
            if not self._place.exists():
                return
            size = self._place.stat().st_size
            if size != self._sent:
                self._remote.upload_file(self._place)
                self._sent = size
        except OSError as error:
            self._told.once(error)

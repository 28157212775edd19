"""Connecting to a Ray cluster, within a bounded time, and leaving it as it was.

Ray is imported when a cluster is asked for, here and in the modules whose names begin as this one's. No cluster is ever
started unless the address is the word `local`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from scalselect.engines.ray_engine_cluster import RayCluster
from scalselect.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TO_ANSWER = 5.0  # seconds in which a port answers
_TO_CONNECT = 15.0  # seconds in which a trial connection is made
# Ray itself tries for minutes, in compiled code and with a second look at every step: it is given a process to do so.
_TRIAL = """\
import logging, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    print(error, file=sys.stdout)
    sys.exit(3)
"""


@contextlib.contextmanager
def ray_cluster(address: str | None, *, say: Callable[[str], None]) -> Iterator[RayCluster]:
    """Connect to a Ray cluster for the block.

    Where this process is connected already, that connection is used and left as it is.

    Parameters
    ----------
    address
        ``host:port``; ``auto``: the cluster that runs on this machine; ``local``: one of its own, on this machine alone
        and ended with the block (recent versions of Ray write a token for it into ``~/.ray``). None: what RAY_ADDRESS
        says, as in jobs submitted to a cluster, else ``auto``.
    say
        Is told in a sentence what a user should know of the cluster.

    Raises
    ------
    OptionError
        If Ray is not installed, the address is none that can be used, or no cluster answers there within 20 seconds.
    """
    ray = _imported()
    if ray.is_initialized():
        yield RayCluster(ray, say=say)
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted != "local":
        _try(wanted)
    with contextlib.ExitStack() as left:
        left.enter_context(_quiet())
        with _own_sigterm():
            try:
                left.callback(_shutdown, ray)
                # No logging of Ray's on the terminal: what concerns the user is told by us.
                ray.init(address=wanted, log_to_driver=False, logging_level="CRITICAL", **_options(wanted))
            except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
                raise OptionError(_unreachable(wanted, str(error))) from error
        yield RayCluster(ray, say=say)


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    try:
        import ray  # noqa: PLC0415
        import ray.util.scheduling_strategies  # noqa: PLC0415
    except ImportError as error:
        raise OptionError("engine ray needs `pip install 'scalselect[ray]'`") from error
    return ray


def _options(wanted: str) -> dict[str, Any]:
    return {"include_dashboard": False} if wanted == "local" else {}


def _try(wanted: str) -> None:
    """Raise OptionError where no cluster answers, within a bounded time."""
    if "://" in wanted:
        raise OptionError(
            f"--ray-address takes no address of a Ray client: {wanted}; run the command on a machine of the cluster, "
            "with host:port or `auto`, or submit it with `ray job submit`"
        )
    if wanted != "auto":
        host, colon, port = wanted.rpartition(":")
        if not (host and colon and port.isdecimal()):
            raise OptionError(f"--ray-address is host:port, `auto` or `local`: {wanted}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise OptionError(_unreachable(wanted, str(error))) from error
    command = [sys.executable, "-c", _TRIAL, wanted]
    try:
        tried = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TO_CONNECT, check=False
        )
    except subprocess.TimeoutExpired as error:
        why = f"no answer within {_TO_CONNECT:.0f} seconds"
        if b"InvalidAuthToken" in (error.stderr or b""):
            why = "it asks for a token, set RAY_AUTH_MODE=token where the cluster's token lies on this machine"
        raise OptionError(_unreachable(wanted, why)) from None
    if tried.returncode:
        raise OptionError(_unreachable(wanted, " ".join(tried.stdout.split()) or f"exit code {tried.returncode}"))


def _unreachable(wanted: str, why: str) -> str:
    if wanted == "auto":
        what = "no Ray cluster runs on this machine"
    elif wanted == "local":
        return f"Ray could not be started on this machine: {why[:500]}"
    else:
        what = f"no Ray cluster can be used at {wanted}"
    return (
        f"{what}: {why[:500].rstrip('.')}; start one with `ray start --head`, let this machine join it with "
        "`ray start --address=HOST:PORT`, or give --ray-address"
    )


def _shutdown(ray: Any) -> None:
    with _own_sigterm():
        ray.shutdown()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # None: one that Python did not set
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray from printing what its nodes say of dead workers; a version without this switch prints it."""
    worker: Any = importlib.import_module("ray._private.worker")
    before = getattr(worker, "_worker_logs_enabled", None)
    if before is not None:
        worker._worker_logs_enabled = False  # noqa: SLF001
    try:
        yield
    finally:
        if before is not None:
            worker._worker_logs_enabled = before  # noqa: SLF001

"""Real Ray clusters of several nodes on this machine, started as users start them and gone when they are left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
_STORE = 100_000_000  # bytes of shared memory a node
_SECONDS = 60.0


class RayNode:
    """A node: `ray start --block`, which ends all that it started when it is ended."""

    def __init__(self, folder, *words, environment):
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        # Nothing is said to the makers of Ray, and no server is started that these tests do not need.
        command = [
            Path(sys.executable).parent / "ray",
            "start",
            "--block",
            f"--object-store-memory={_STORE}",
            "--num-gpus=0",
            "--disable-usage-stats",
            *words,
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, process_group=0
            )

    def wait_until(self, text):
        """Wait until Ray says a text, and return all that it said."""
        until = time.monotonic() + _SECONDS
        while True:
            said = self.log.read_text(encoding="utf-8", errors="replace")
            if text in said:
                return said
            assert self._process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.1)

    def processes(self):
        """Return the numbers of all processes of the node."""
        return descendants(self._process.pid)

    def remove(self):
        """End all processes of the node at once, as when its machine loses power."""
        for process in [*self.processes(), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()


class RayMachines:
    """A head and further nodes, each with so many CPUs; `address` is that of the head."""

    def __init__(self, nodes=2, cpus=1, environment=None):
        self._folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # the paths of sockets must be short
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE), str(HERE / "engines")]),
            "OMP_NUM_THREADS": "1",
            "RAY_TMPDIR": str(self._folder),
            "RAY_AUTH_MODE": "disabled",  # whatever token the home folder of who runs the tests has
            # A node whose machine is gone is missed after two seconds instead of half a minute.
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_health_check_initial_delay_ms": "500",
            **(environment or {}),
        }
        self._environment.pop("RAY_ADDRESS", None)
        self.nodes = []
        try:
            head = self._started(
                f"--num-cpus={cpus}", "--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self._folder}"
            )
            self.address = (
                head.wait_until("ray start --address='").partition("ray start --address='")[2].partition("'")[0]
            )
            for _ in range(nodes - 1):
                self.add(cpus)
        except BaseException:
            self.close()
            raise

    def add(self, cpus=1, environment=None):
        """Start a further node and wait until it is part of the cluster."""
        node = self._started(f"--num-cpus={cpus}", f"--address={self.address}", environment=environment)
        node.wait_until("Ray runtime started")
        return node

    def remove(self, place):
        """End the last node, or that at another place of `nodes`."""
        self.nodes.pop(place).remove()

    def close(self):
        """End all nodes, and leave no process and no file."""
        while self.nodes:
            self.nodes.pop().remove()
        for process in processes_that_name(self._folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self, *words, environment=None):
        self.nodes.append(RayNode(self._folder, *words, environment={**self._environment, **(environment or {})}))
        return self.nodes[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def processes_that_name(text):
    """Return the numbers of processes whose words hold a text."""
    found = []
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(text).encode() in words.read_bytes():
                found.append(int(words.parent.name))
    return found


def descendants(process):
    """Return the numbers of the processes that a process started, and those that these started."""
    children = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, ahead = [], [process]
    while ahead:
        ahead += (born := children.get(ahead.pop(), []))
        found += born
    return found

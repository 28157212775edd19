"""Commands under way in processes of their own, whatever engine they use: watched, disturbed, and looked at when done.

Processes that are started with `Watched.environment` tell which shards they represent, and with how many threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from scalselect.process_mark import mark_of
from scalselect.storage import TEMPORARY_MARK
from small_pools import promised_files

HERE = Path(__file__).resolve().parent
_SECONDS = 240.0
# Python imports a module of this name at its start, in workers of all engines as well. A shard takes a while, so that
# it can be disturbed.
_AT_START = """
import importlib.util, os, sys, time

def threads():
    from threadpoolctl import threadpool_info
    found = {facts["num_threads"] for facts in threadpool_info() if facts["user_api"] == "blas"}
    return min(found), max(found)

def tell(*words):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(" ".join(map(str, (os.getpid(), *words))) + chr(10))

def watch_shards(module):
    publish = module.ShardWork._publish
    def telling(self, shard, *rest):
        import torch
        tell("shard", shard, torch.get_num_threads(), *threads())
        time.sleep(float(os.environ["WATCHED_SECONDS"]))
        return publish(self, shard, *rest)
    module.ShardWork._publish = telling

def watch_parts(module):
    summed = module.ScoreParts._summed
    def telling(self, kind, part):
        tell(kind, part, *threads())
        return summed(self, kind, part)
    module.ScoreParts._summed = telling

class Watching:
    patches = {"scalselect.shard_work": watch_shards, "scalselect.score_parts": watch_parts}
    def find_spec(self, name, path=None, target=None):
        patch = self.patches.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def patched(module):
            execute(module)
            patch(module)
        spec.loader.exec_module = patched
        return spec

sys.meta_path.insert(0, Watching())
"""


class Told(NamedTuple):
    """What a process was about to publish, and the numbers of threads of its libraries."""

    process: int
    what: str
    number: int
    threads: set[int]


class Watched:
    """What processes with this environment tell."""

    def __init__(self, folder, seconds=0.15):
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_AT_START)
        self._file = folder / "told"
        self.environment = {
            "PYTHONPATH": os.pathsep.join(map(str, [folder, HERE.parent / "src", HERE, HERE / "engines"])),
            "WATCHED": str(self._file),
            "WATCHED_SECONDS": str(seconds),
        }
        self.forget()

    def forget(self):
        self._file.write_text("")

    def told(self):
        lines = [line.split() for line in self._file.read_text().splitlines()]
        return [Told(int(line[0]), line[1], int(line[2]), set(map(int, line[3:]))) for line in lines]

    def shards(self):
        """Return the shards that were represented, in order, each as often as it was."""
        return sorted(told.number for told in self.told() if told.what == "shard")


class Command:
    """A command in a session of its own, which ends at the latest with the block."""

    def __init__(self, words, log, environment, *, ranks=0):
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks else []
        self._log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *launcher, "scalselect", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "RAY_AUTH_MODE": "disabled", **environment},
                start_new_session=True,
            )

    def said(self):
        return self._log.read_text(errors="replace")

    def interrupt(self):
        """Press Ctrl-C: all processes of the terminal get the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ends(self):
        """Wait for the end and return the exit code."""
        return self.process.wait(_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for(found, commands=()):
    """Wait until something is found, and return it; fail as soon as one of the commands has ended before that."""
    until = time.monotonic() + _SECONDS
    while not (now := found()):
        for command in commands:
            assert command.process.poll() is None, command.said()
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)
    return now


def names_on_disk(run):
    """Return the names of all files of a run."""
    return [str(path.relative_to(run)) for path in Path(run).rglob("*") if path.is_file()]


def published(run, names=names_on_disk):
    """Return the shards that are published."""
    reports = (Path(name) for name in names(run))
    return {int(path.stem.removeprefix("shard-")) for path in reports if path.match("representations/shard-*.json")}


def holders(run, names=names_on_disk):
    """Return the shards that processes are at, with the numbers of these processes."""
    return {shard: mark.process for shard, mark in _claims(run, names).items()}


def _claims(run, names):
    claims = (Path(name).name.rpartition("@") for name in names(run) if name.startswith(".claims/shard-"))
    marks = {int(what.removeprefix("shard-")): mark_of(who) for what, _, who in claims}
    return {shard: mark for shard, mark in marks.items() if mark is not None}  # beats have none


def leave_half_written(run, shard):
    """Leave what the process that is at a shard would leave if it were killed as it writes."""
    mark = _claims(run, names_on_disk)[shard]
    (run / "representations" / f".shard-{shard:07d}.safetensors{TEMPORARY_MARK}{mark}").write_bytes(b"half")


def stopped_at_a_shard(run, *, after, but=(), names=names_on_disk):
    """Stop a process that is at a shard, once so many are published; return its number and the shard."""

    def stopped():
        if len(published(run, names)) < after:
            return None
        for shard, process in holders(run, names).items():
            if process in but:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                if holders(run, names).get(shard) == process and shard not in published(run, names):
                    return process, shard
                os.kill(process, signal.SIGCONT)
        return None

    return stopped


def kill(process):
    os.kill(process, signal.SIGKILL)


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def files_of_shards(run, shards):
    """Return what changes when a shard is published again."""
    found = {}
    for shard in shards:
        for path in (run / "representations").glob(f"shard-{shard:07d}.*"):
            found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def check_equal(run, reference):
    """Check that a run made what another one made: every shard once, byte for byte, and nothing is left beside."""
    ours, theirs = set(without_logs(names_on_disk(run))), set(names_on_disk(reference))
    assert ours == theirs, f"left: {sorted(ours - theirs)}; lacking: {sorted(theirs - ours)}"
    ours, theirs = ({path.name for path in folder.iterdir() if path.is_dir()} for folder in (run, reference))
    assert ours - {"logs"} == theirs, f"folders: {sorted(ours)}"
    ours, theirs = promised_files(run), promised_files(reference)
    assert [name for name in theirs if ours.get(name) != theirs[name]] == []


def without_logs(names):
    return [name for name in names if not name.startswith("logs/")]

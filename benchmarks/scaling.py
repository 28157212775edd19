"""What several workers gain and what an engine costs: efficiency, overhead a shard, and whether it stays so.

``python benchmarks/scaling.py [--only efficiency|overhead|growth] [--quick]`` measures (a) `scalselect.represent` of a
demo pool with 1 and 2 workers of one thread each, in turn; (b) the time of a shard whose work is empty, with the local
engine, Ray and torchrun; (c) the same and the driver's memory over 100,000 shards, in ten slices. Ray is left out where
it is not installed. (a) needs the package ``easy-vqa``, all of it Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import scalselect
from scaling_work import begin
from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from scalselect.engines.worker_processes import LocalCrew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalselect.engines.crew import Crew

HERE = Path(__file__).parent
SLICES = 10
WORKERS = 2


class Cost(NamedTuple):
    """Seconds and driver memory, slice by slice, after the workers have begun."""

    begin_seconds: float
    seconds: list[float]
    resident: list[int]


class Represented(NamedTuple):
    """Seconds from the call to its end, and from the first shard that was finished to the last."""

    total: float
    steady: float
    steady_shards: int


def main() -> int:
    """Read the command line, measure, print the tables."""
    parser = argparse.ArgumentParser(description="Measure the efficiency and the overhead of engines.")
    parser.add_argument("--only", choices=("efficiency", "overhead", "growth"), help="one part (default: all)")
    parser.add_argument("--engines", default="local,ray,torchrun", help="of these (default: %(default)s)")
    parser.add_argument("--pairs", type=int, help="repetitions in turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="few shards, one pair: shows only that it runs")
    options = parser.parse_args()
    pairs = options.pairs or (1 if options.quick else 5)
    if pairs < 1:
        parser.error("--pairs must be at least 1")
    engines = [name for name in options.engines.split(",") if name != "ray" or importlib.util.find_spec("ray")]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    print("\n".join(facts()), flush=True)
    if options.only in (None, "efficiency"):
        efficiency(engines, pairs, rows=100 if options.quick else 1600)
    if options.only in (None, "overhead"):
        overhead(engines, pairs, shards=40 if options.quick else 1000)
    if options.only in (None, "growth"):
        growth(engines, shards=200 if options.quick else 100_000)
    return 0


def efficiency(engines: list[str], pairs: int, *, rows: int) -> None:
    """Measure (a)."""
    print(f"\n=== (a) represent {rows:,} rows with 1 and with {WORKERS} workers of one thread ===")
    with tempfile.TemporaryDirectory(prefix="scaling-benchmark-") as name:
        build = HERE.parent / "examples" / "build_demo.py"
        subprocess.run([sys.executable, build, f"{name}/demo", "--rows", str(rows)], check=True, stdout=sys.stderr)
        for engine in engines:
            if engine == "torchrun":  # its ranks are whole commands: (b) tells what they cost
                continue
            ran: dict[int, list[Represented]] = {1: [], WORKERS: []}
            for pair in range(pairs):
                for workers, costs in ran.items():
                    costs.append(represented(Path(name), f"{engine}-{workers}-{pair}", engine, workers, rows))
            for workers, costs in ran.items():
                print(
                    f"{engine:9}{workers} workers: seconds in all {spread([one.total for one in costs], 2)}, "
                    f"steady shards a second {spread([rate(one) for one in costs], 2)}"
                )
            gained = [rate(two) / rate(one) for one, two in zip(*ran.values(), strict=True)]
            print(
                f"{engine:9}efficiency, steady rate of {WORKERS} / {WORKERS} x that of 1: "
                f"{spread([ratio / WORKERS for ratio in gained], 3)}",
                flush=True,
            )


def represented(folder: Path, label: str, engine: str, workers: int, rows: int) -> Represented:
    """Represent the demo pool once; the steady rate is told by the times at which shards were published."""
    output = folder / label
    more: dict[str, Any] = {"engine": "ray", "ray_address": "local"} if engine == "ray" else {}
    began = time.perf_counter()
    scalselect.represent(
        folder / "demo" / "pool.json",
        model=str(folder / "demo" / "checkpoint"),
        output=output,
        workers=workers,
        threads=1,
        dataloader_workers=0,
        shard_size=max(1, rows // 40),
        **more,
    )
    total = time.perf_counter() - began
    reports = (output / "representations").glob("shard-*.json")
    return Represented(total, *steady([path.stat().st_mtime for path in reports], workers))


def steady(published: list[float], workers: int) -> tuple[float, int]:
    """Return seconds and shards between the first shards of all workers and the first worker without a further one."""
    times = sorted(published)[workers - 1 : len(published) - workers + 1]
    if len(times) < 2:  # noqa: PLR2004  a rate needs two moments
        raise ValueError(f"too few shards for a rate: {len(published)} for {workers} workers")
    return times[-1] - times[0], len(times) - 1


def rate(ran: Represented) -> float:
    """Return shards a second."""
    return ran.steady_shards / ran.steady


def overhead(engines: list[str], pairs: int, *, shards: int) -> None:
    """Measure (b)."""
    print(f"\n=== (b) {shards:,} shards of empty work, {WORKERS} workers ===")
    costs: dict[str, list[tuple[float, float]]] = {engine: [] for engine in engines}
    for _ in range(pairs):
        for engine, measured in costs.items():
            measured.append(empty_shards(engine, shards))
    print(f"{'':12}{'seconds to begin':>26}{'ms a shard':>26}")
    for engine, measured in costs.items():
        begins, each = zip(*measured, strict=True)
        print(f"{engine:12}{spread(list(begins), 2):>26}{spread([1e3 * one for one in each], 3):>26}", flush=True)


def empty_shards(engine: str, shards: int) -> tuple[float, float]:
    """Return the seconds until workers take tasks, and those of a shard."""
    if engine == "torchrun":
        return torchrun_shards(shards)
    cost = supervised(engine, shards, slices=1)
    return cost.begin_seconds, cost.seconds[0] / shards


def torchrun_shards(shards: int) -> tuple[float, float]:
    """Let the ranks of a real torchrun go through their shards with claims."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="scaling-benchmark-") as name:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(WORKERS)]
        subprocess.run(
            [*command, str(HERE / "scaling_work.py"), name, str(shards)], check=True, capture_output=True, timeout=300
        )
        total = time.perf_counter() - began
        ranks = [json.loads(path.read_text(encoding="utf-8")) for path in Path(name).glob("rank-*.json")]
    if sum(rank["shards"] for rank in ranks) < shards:
        raise RuntimeError(f"the ranks did {ranks} of {shards} shards")
    work = max(rank["seconds"] for rank in ranks)
    return total - work, work / shards


def growth(engines: list[str], *, shards: int) -> None:
    """Measure (c)."""
    print(f"\n=== (c) {shards:,} shards of empty work in {SLICES} slices, {WORKERS} workers ===")
    for engine in engines:
        if engine == "torchrun":  # it has no driver
            continue
        cost = supervised(engine, shards, slices=SLICES)
        each = [1e3 * seconds * SLICES / shards for seconds in cost.seconds]
        print(f"{engine:9}ms a shard         " + " ".join(f"{one:7.3f}" for one in each))
        print(f"{engine:9}MiB of the driver  " + " ".join(f"{one / 2**20:7.1f}" for one in cost.resident))
        print(
            f"{engine:9}last slice / first: time {each[-1] / each[0]:.3f}, memory "
            f"{cost.resident[-1] / cost.resident[0]:.3f}",
            flush=True,
        )


def supervised(engine: str, shards: int, *, slices: int) -> Cost:
    """Hand out shards of empty work, and note time and memory after each slice."""
    began = time.perf_counter()
    seconds: list[float] = []
    resident: list[int] = []
    with (
        crew_of(engine) as crew,
        Supervisor[int, int](crew, WORKERS, retrying=Retrying(), overtaking=True) as supervisor,
    ):
        supervisor.facts()
        begin_seconds = time.perf_counter() - began
        last, size = time.perf_counter(), shards // slices
        for count, outcome in enumerate(supervisor.results(range(size * slices)), start=1):
            if outcome.error is not None:
                raise outcome.error
            if count % size == 0:
                now = time.perf_counter()
                seconds.append(now - last)
                resident.append(resident_bytes())
                last = now
    return Cost(begin_seconds, seconds, resident)


@contextlib.contextmanager
def crew_of(engine: str) -> Iterator[Crew]:
    """Return workers of an engine that do nothing; for Ray with a cluster of their own."""
    if engine == "local":
        yield LocalCrew(begin)
        return
    from scalselect.engines.ray_engine import ray_cluster  # noqa: PLC0415  only where Ray is installed

    with ray_cluster("local", say=lambda words: print(words, file=sys.stderr)) as cluster:
        yield cluster.crew(begin, cpus=1, gpus=0)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


def spread(values: list[float], digits: int) -> str:
    """Return median, lowest and highest."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def facts() -> list[str]:
    """Return lines that say where, when and with what this ran."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    load = os.getloadavg()[0]
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start",
        f"software  Python {platform.python_version()}",
        "cells     median (lowest..highest); ratios are taken pair by pair",
    ]


if __name__ == "__main__":
    sys.exit(main())

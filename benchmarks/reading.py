"""How fast pools are opened, records read and a part written, beside the least that each can cost.

``python benchmarks/reading.py [--records N] [--pairs 5] [--quick]`` writes pools of random LLaVA records to a
temporary folder, as a JSON array, JSON Lines, a Parquet file and a WebDataset tar (a third of the records), and opens
each in turn with its limit, each time in a process of its own. The limit of opening JSON is a plain read of the file
and msgspec's raw decoding, without any hash; that of the others a listing (Parquet: the footer) and a hash of the
file. The limit of writing is a plain copy of as many bytes, published as ours is; with Parquet, whose pages have to
be made anew, pyarrow's reading, taking and writing. It exits with 1 if the numbers of records disagree; a missed goal
is printed and nothing else.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from reading_passes import READ_AT_RANDOM, SHARE, Cost, cost_here
from reading_pools import WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_OPEN = 1.5  # seconds of ours over those of the limit
GOAL_MEMORY = 200.0  # MB above the size of the file
GOAL_RANDOM = 0.2  # ms a record
GOAL_WRITE = 0.5  # speed of ours over that of a copy


class Kind(NamedTuple):
    """A container, its title, and which goals it has."""

    name: str
    title: str
    shrunk: int = 1  # the number of records is divided by this
    random: bool = True


KINDS = (
    Kind("json", "JSON array"),
    Kind("jsonl", "JSON Lines"),
    Kind("parquet", "Parquet, row groups of 100 rows", random=False),
    Kind("tar", "WebDataset tar, two members a sample", shrunk=3),
)


def main() -> int:
    """Read the command line, measure, print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="Time opening, reading and writing of pools beside their limits.")
    parser.add_argument("--records", type=int, default=600_000, help="records of the pools (default: 600,000)")
    parser.add_argument("--pairs", type=int, help="repetitions of ours and the limit in turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny pools, 2 pairs: shows only that it runs")
    options = parser.parse_args()
    pairs = options.pairs or (2 if options.quick else 5)
    count = 3_000 if options.quick else options.records
    if pairs < 1 or count < 1:
        parser.error("--pairs and --records must be at least 1")
    print("\n".join(facts()), flush=True)
    agree = [measure(kind, max(count // kind.shrunk, 1), pairs) for kind in KINDS]
    return int(not all(agree))


def measure(kind: Kind, count: int, pairs: int) -> bool:
    """Measure one container and print its table; return whether both ways find all records."""
    with tempfile.TemporaryDirectory(prefix="reading-benchmark-") as name:
        pool = Path(name) / "pool"
        WRITERS[kind.name](pool, count)
        size = pool.stat().st_size
        costs = in_turn(kind.name, pool, pairs)
    mine, least = costs["ours"], costs["limit"]
    print(f"\n=== {kind.title}: {count:,} records, {size / 1e6:,.1f} MB ===\n")
    print(f"{'':34}" + "".join(f"{name:>26}" for name in costs))
    for stage, what in {"open": "open", "all": "read all records", "write": f"write {SHARE:.0%}"}.items():
        if stage in mine[0].seconds:
            print(line(f"{what}, seconds", costs, lambda cost, stage=stage: cost.seconds[stage]))
            print(line(f"{what}, CPU seconds", costs, lambda cost, stage=stage: cost.cpu_seconds[stage]))
    print(line("peak above the file's size, MB", costs, lambda cost: (cost.peak - size) / 1e6, 1))
    for stage, what in {"open": "opening", "all": "reading all records"}.items():
        if stage in mine[0].seconds:
            values = ratios(mine, least, stage)
            print(verdict(f"seconds of {what}, ours / limit", values, GOAL_OPEN))
    if kind.name.startswith("json"):
        print(verdict("peak above the file's size, MB", [(cost.peak - size) / 1e6 for cost in mine], GOAL_MEMORY, 1))
    milliseconds = [1e3 * cost.seconds["random"] / READ_AT_RANDOM for cost in mine]
    print(verdict("a record at random, ms", milliseconds, GOAL_RANDOM if kind.random else None, 3))
    print(verdict("speed of writing, ours / limit", ratios(least, mine, "write"), GOAL_WRITE, above=True), flush=True)
    return {cost.records for column in costs.values() for cost in column} == {count}


def in_turn(kind: str, pool: Path, pairs: int) -> dict[str, list[Cost]]:
    """Measure ours and the limit `pairs` times, alternately, each time in a fresh process."""
    costs: dict[str, list[Cost]] = {"ours": [], "limit": []}
    context = get_context("forkserver")
    context.set_forkserver_preload(["reading_passes"])  # so that no import is measured
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        written = processes.submit(cost_here, "ours", kind, pool).result().written  # and the page cache is filled
        with pool.open("rb") as source, (pool.parent / "as-large").open("wb") as target:
            shutil.copyfileobj(source, target)
            target.truncate(written)
        for _ in range(pairs):
            for way, column in costs.items():
                column.append(processes.submit(cost_here, way, kind, pool).result())
    return costs


def ratios(over: list[Cost], under: list[Cost], stage: str) -> list[float]:
    """Return the ratio of a stage's seconds, pair by pair."""
    return [one.seconds[stage] / other.seconds[stage] for one, other in zip(over, under, strict=True)]


def line(name: str, costs: dict[str, list[Cost]], value: Callable[[Cost], float], digits: int = 2) -> str:
    """Return a line of the table: one column a way."""
    cells = (spread([value(cost) for cost in column], digits) for column in costs.values())
    return f"{name:34}" + "".join(f"{cell:>26}" for cell in cells)


def spread(values: list[float], digits: int) -> str:
    """Return median, lowest and highest."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def verdict(name: str, values: list[float], goal: float | None, digits: int = 2, *, above: bool = False) -> str:
    """Return the values, and whether their median reaches the goal."""
    if goal is None:
        return f"{name}: {spread(values, digits)}"
    middle = statistics.median(values)
    met = "met" if (middle >= goal if above else middle <= goal) else "not met"
    return f"{name}: {spread(values, digits)} (goal: at {'least' if above else 'most'} {goal:g}, {met})"


def facts() -> list[str]:
    """Return lines that say where, when and with what this ran."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    load = os.getloadavg()[0]
    libraries = f"msgspec {msgspec.__version__}, numpy {np.__version__}, pyarrow {pa.__version__}"
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start",
        f"software  Python {platform.python_version()}, {libraries}",
        "pools     from the page cache; every measurement in a process of its own, in turn",
        "peak      resident memory of the whole process while a pool is opened, mapped pages of files included",
        "cells     median (lowest..highest); ratios are taken pair by pair; goals are held against the clock",
    ]


if __name__ == "__main__":
    sys.exit(main())

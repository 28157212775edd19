"""Leverage scores beside two dense SVDs and beside the least work there is, and how time and memory grow with the rows.

``python benchmarks/scoring.py [--pairs 7] [--quick]`` writes pools of random vectors to a temporary folder and scores
them in several ways, in turn, each time in a process of its own: (a) beside `numpy.linalg.svd` in float32, called
twice; (b) beside one read and one product in float64; (c) with ten times as many rows; (d) with products in float32. It
exits with 1 if scores disagree; a missed goal is printed and nothing else. Linux only.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy
from threadpoolctl import threadpool_info

from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import leverage_scores
from scoring_passes import (
    SHARD_ROWS,
    THREADS,
    Cost,
    cost_here,
    float32_scores,
    near_degenerate_pool,
    sums_of,
    write_pool,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_SPEED, GOAL_MEMORY = 8.0, 15.0  # of two SVDs over ours
GOAL_OF_LIMIT = 0.75  # speed of ours over that of the limit
GOAL_GROWTH = 0.1  # a row's seconds and the peak, with ten times as many rows
ALLOWED = 1e-3  # difference of a score from that of the float32 SVD, over the largest score
ALLOWED_EXACT = 1e-10  # the same from that of the float64 SVD


class Sizes(NamedTuple):
    """Rows and dimensions of the pools."""

    usual: tuple[int, int]
    limit: tuple[int, int]
    growth: tuple[int, int]  # the smaller number of rows


SIZES = Sizes((50_000, 1024), (50_000, 4096), (100_000, 1024))
QUICK_SIZES = Sizes((3_000, 64), (3_000, 128), (2_000, 64))


def main() -> int:
    """Read the command line, measure, print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="Time leverage scores beside two SVDs and beside the limit.")
    parser.add_argument("--pairs", type=int, help="repetitions of the ways in turn (default: 7)")
    parser.add_argument("--quick", action="store_true", help="tiny pools, 2 pairs: shows only that it runs")
    options = parser.parse_args()
    pairs = options.pairs or (2 if options.quick else 7)
    if pairs < 1:
        parser.error("--pairs must be at least 1")
    sizes = QUICK_SIZES if options.quick else SIZES
    print("\n".join(facts()), flush=True)
    agree = beside_two_svds(*sizes.usual, pairs) & near_degenerate()
    beside_the_limit(*sizes.limit, pairs)
    growth(*sizes.growth, pairs)
    return int(not agree)


def in_turn(jobs: dict[str, tuple[str, Path, int]], pairs: int, *, keep: bool = False) -> dict[str, list[Cost]]:
    """Run every job `pairs` times, alternately, each time in a fresh process."""
    costs: dict[str, list[Cost]] = {name: [] for name in jobs}
    context = get_context("forkserver")
    context.set_forkserver_preload(["scoring_passes"])  # so that no import is measured
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for pair in range(pairs):
            for name, job in jobs.items():
                costs[name].append(processes.submit(cost_here, *job, keep=keep and pair == 0).result())
    return costs


def beside_two_svds(rows: int, hidden: int, pairs: int) -> bool:
    """Measure (a) and (d) on one pool; return whether the scores agree."""
    with tempfile.TemporaryDirectory(prefix="scoring-benchmark-") as name:
        folder = Path(name)
        write_pool(folder, rows, hidden)
        ways = {"ours": "ours", "two float32 SVDs": "usual", "float32 products": "float32"}
        costs = in_turn({name: (way, folder, rows) for name, way in ways.items()}, pairs, keep=True)
        exact = in_turn({"exact": ("exact", folder, rows)}, 1, keep=True)["exact"][0]
    mine, svd, single = (costs[name] for name in ways)
    speed, memory = ratios(svd, mine, total), ratios(svd, mine, lambda cost: cost.peak)
    product = ratios(mine, single, lambda cost: cost.cpu_seconds["scatter"])
    error, svd_error, single_error = (largest_difference(cost[0], exact) for cost in (mine, svd, single))
    print(f"\n=== (a) beside two float32 SVDs: {rows:,} x {hidden:,}, k = {mine[0].rank} ===")
    print("\n".join(table({"ours": mine, "two float32 SVDs": svd})))
    print(verdict("CPU seconds of two SVDs / ours", speed, GOAL_SPEED))
    print(verdict("peak memory of two SVDs / ours", memory, GOAL_MEMORY))
    print("largest difference from the scores of a float64 SVD, over the largest score:")
    print(f"  ours {error:.1e} (allowed: {ALLOWED_EXACT:.0e}), float32 SVDs {svd_error:.1e} (allowed: {ALLOWED:.0e})")
    print(f"\n=== (d) products in float32 (ssyrk): {rows:,} x {hidden:,} ===")
    print("\n".join(table({"ours": mine, "float32 products": single})))
    print(f"CPU seconds of ours / float32 products, scatter pass: {spread(product, 2)}")
    print(f"largest difference from the scores of a float64 SVD: {single_error:.1e}", flush=True)
    ranks = {mine[0].rank, svd[0].rank, exact.rank}
    return len(ranks) == 1 and error <= ALLOWED_EXACT and svd_error <= ALLOWED


def beside_the_limit(rows: int, hidden: int, pairs: int) -> None:
    """Measure (b)."""
    with tempfile.TemporaryDirectory(prefix="scoring-benchmark-") as name:
        folder = Path(name)
        write_pool(folder, rows, hidden)
        costs = in_turn({way: (way, folder, rows) for way in ("ours", "limit")}, pairs)
    print(f"\n=== (b) beside the limit: {rows:,} x {hidden:,}, k = {costs['ours'][0].rank} ===")
    print("\n".join(table(costs)))
    print(verdict("speed of ours / speed of the limit", ratios(costs["limit"], costs["ours"], total), GOAL_OF_LIMIT))
    sys.stdout.flush()


def growth(rows: int, hidden: int, pairs: int) -> None:
    """Measure (c): the same shards, and ten times as many."""
    many = 10 * rows
    with tempfile.TemporaryDirectory(prefix="scoring-benchmark-") as name:
        folder = Path(name)
        write_pool(folder, many, hidden)
        few_costs, many_costs = in_turn(
            {"few": ("ours from disk", folder, rows), "many": ("ours from disk", folder, many)}, pairs
        ).values()
    print(f"\n=== (c) {rows:,} and {many:,} rows x {hidden:,}, the same files, read from disk ===")
    for stage in ("scatter", "projection"):
        here = [1e6 * cost.cpu_seconds[stage] / rows for cost in few_costs]
        there = [1e6 * cost.cpu_seconds[stage] / many for cost in many_costs]
        grown = [two / one for one, two in zip(here, there, strict=True)]
        print(f"{f'{stage} pass, CPU microseconds a row':40}{spread(here, 2):>24}{spread(there, 2):>24}")
        print(within(f"  ratio of the {stage} pass", grown))
    peaks = [[cost.peak / 2**20 for cost in costs] for costs in (few_costs, many_costs)]
    print(f"{'MiB of peak memory':40}{spread(peaks[0], 1):>24}{spread(peaks[1], 1):>24}")
    print(within("  ratio of peak memory", [two / one for one, two in zip(*peaks, strict=True)]), flush=True)


def near_degenerate() -> bool:
    """Print what float32 products cost where s_k and s_{k+1} nearly coincide; return whether ours stay exact."""
    X, rank, energy = near_degenerate_pool()
    blocks = np.array_split(X, 4)
    Xc = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)  # [rows, hidden]
    exact = (np.linalg.svd(Xc, full_matrices=False)[0][:, :rank] ** 2).sum(axis=1)  # [rows]
    subspace = dominant_subspace(sums_of(iter(blocks)), energy=energy)
    scored = (leverage_scores(X, subspace), float32_scores(lambda: iter(blocks), energy)[1])
    errors = [float(np.abs(scores - exact).max() / exact.max()) for scores in scored]
    print(f"the same where s_k / s_k+1 - 1 = {subspace.gap - 1:.0e}: {errors[1]:.1e}, ours {errors[0]:.1e}")
    return subspace.rank == rank and errors[0] <= ALLOWED_EXACT


def total(cost: Cost) -> float:
    """Return the CPU seconds of all stages: with one thread those of the clock, without other processes' share."""
    return sum(cost.cpu_seconds.values())


def ratios(over: list[Cost], under: list[Cost], value: Callable[[Cost], float]) -> list[float]:
    """Return the ratio of a value, pair by pair."""
    return [value(one) / value(other) for one, other in zip(over, under, strict=True)]


def largest_difference(cost: Cost, exact: Cost) -> float:
    """Return the largest difference of a score from the exact one, over the largest score."""
    if cost.scores is None or exact.scores is None:
        raise ValueError("the scores were not kept")
    return float(np.abs(cost.scores - exact.scores).max() / exact.scores.max())


def table(costs: dict[str, list[Cost]]) -> list[str]:
    """Return the lines of a table: one column a way."""
    lines = ["", f"{'':28}" + "".join(f"{name:>28}" for name in costs)]
    rows: dict[str, list[list[float]]] = {
        "seconds": [[sum(cost.seconds.values()) for cost in column] for column in costs.values()],
        "CPU seconds": [[total(cost) for cost in column] for column in costs.values()],
        "MiB of peak memory": [[cost.peak / 2**20 for cost in column] for column in costs.values()],
    }
    lines += [f"{name:28}" + "".join(f"{spread(column, 2):>28}" for column in cells) for name, cells in rows.items()]
    for name, column in costs.items():
        names = column[0].seconds
        stages = {stage: statistics.median(cost.cpu_seconds[stage] for cost in column) for stage in names}
        shown = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
        lines.append(f"  CPU seconds of {name}: {shown}")
    return lines


def spread(values: list[float], digits: int) -> str:
    """Return median, lowest and highest."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def verdict(name: str, values: list[float], goal: float) -> str:
    """Return whether the median of a ratio reaches its goal."""
    met = "met" if statistics.median(values) >= goal else "not met"
    return f"{name}: {spread(values, 2)} (goal: at least {goal:.2f}, {met})"


def within(name: str, values: list[float]) -> str:
    """Return whether the median of a ratio is near 1."""
    met = "met" if abs(statistics.median(values) - 1) <= GOAL_GROWTH else "not met"
    return f"{name}: {spread(values, 3)} (goal: within {GOAL_GROWTH:.0%} of 1, {met})"


def facts() -> list[str]:
    """Return lines that say where, when and with what this ran."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    blas, load = threadpool_info()[0], os.getloadavg()[0]
    library = f"{blas['internal_api']} {blas['version']} ({blas.get('architecture')})"
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start",
        f"software  Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, {library}",
        f"threads   {THREADS}; every measurement in a process of its own, in turn; peaks above what was held before",
        f"pools     float32, {SHARD_ROWS:,} rows a file, read in every pass, from the page cache but in (c)",
        "cells     median (lowest..highest); ratios are taken pair by pair; goals are held against CPU seconds",
    ]


if __name__ == "__main__":
    sys.exit(main())

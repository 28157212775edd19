"""What each strategy chooses, beside uniform random choices: error, coverage, redundancy and groups, a table a pool.

``python benchmarks/strategies.py [--seeds 5] [--quick]`` chooses 16 % and 2 k rows of each pool of `strategy_pools.py`
by every strategy and at random, with each kind of deduplication. The same call gives the same tables. No model is
trained: the measures say how well chosen vectors stand for the pool's, not what a model learns from the rows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import os
import platform
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from scalselect.candidate_rows import candidate_rows
from scalselect.config import Deduplicate, SelectConfig
from scalselect.diagnostics.coverage import coverage_measures, whitening_scale
from scalselect.diagnostics.reconstruction import reconstruction_errors
from scalselect.diagnostics.redundancy import copies
from scalselect.diagnostics.seeded_choice import random_choice
from scalselect.option_values import parse_budget
from scalselect.progress import Silent
from scalselect.selection.budget import rows_to_choose
from scalselect.selection.candidates import Candidates, draws_of
from scalselect.selection.exact_copies import first_copies
from scalselect.selection.ranking import order_by_score
from scalselect.selection.selecting import select_rows
from scalselect.selection.strategies import STRATEGIES
from strategy_pools import SOURCES, THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from strategy_pools import ScoredPool, Source

RANDOM = "uniform random"
SHARE = parse_budget("16%")
NEAR_BOUND = 0.99
BUDGETS = ("budget 16 %", "budget 2 k")
HEADINGS = f"{'':23}{'error':>18}{'ratio':>10}{'coverage':>18}{'ratio':>10}{'near':>12}{'copies':>7}{'moved':>12}"
MEASURES = """\
error     share of the pool's energy outside of the k leading directions of the chosen rows, in percent, above
          the smallest share that k directions can leave
coverage  mean distance from a row of the pool to the nearest chosen row, in the whitened subspace scaled to a
          mean squared norm of one
near      percentage of the chosen rows that have another chosen row at a cosine of 0.99 or more
copies    percentage of the chosen rows that repeat an earlier one exactly
moved     percentage of the chosen rows that would have to belong to another group for the pool's proportions
Median (lowest..highest) over the seeds; one number where they are equal.
ratio     of the measure before it to that of the uniform random choice of the same pool, size and seed,
          deduplicate none: median over the seeds, and in how many of them it is below one"""


class Measured(NamedTuple):
    """What one choice is like; see `MEASURES`. `moved` is NaN without groups."""

    error: float
    coverage: float
    near: float
    copies: float
    moved: float


Key = tuple[str, str, str]  # budget, deduplication, strategy


def main() -> None:
    """Choose, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small pools and two seeds: shows only that it runs")
    options = parser.parse_args()
    seeds = range(2 if options.quick else options.seeds)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)  # what runs of vectors take as their number of threads
    print_facts(len(seeds))
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(limits=THREADS):
        for source in SOURCES:
            report(source, Path(scratch) / source.title, seeds, quick=options.quick)


def report(source: Source, folder: Path, seeds: range, *, quick: bool) -> None:
    """Measure all choices of one kind of pool and print its table."""
    done: dict[Key, list[Measured]] = {}
    copies_found: dict[str, list[int]] = {}
    pools: list[ScoredPool] = []
    kept: dict[str, NDArray[np.int64]] = {}
    for seed in seeds:
        if source.drawn or not pools:
            pools.append(source.make(folder / str(seed), quick, seed))
            kept, counts = without_copies(pools[-1])
            for what, count in counts.items():
                copies_found.setdefault(what, []).append(count)
        measured: dict[bytes, Measured] = {}  # by chosen places: deduplication often changes nothing
        for key, places in choose_all(pools[-1], kept, seed).items():
            found = measured.get(places.tobytes()) or measure(pools[-1], places)
            measured[places.tobytes()] = found
            done.setdefault(key, []).append(found)
    print_table(source, pools, copies_found, done)


def choose_all(pool: ScoredPool, kept: dict[str, NDArray[np.int64]], seed: int) -> dict[Key, NDArray[np.int64]]:
    """Return the chosen places, ascending, of every budget, deduplication and strategy, the random choice first."""
    eligible = len(pool.scores)
    draws = draws_of(seed, pool.run.table.num_rows)
    chosen = {}
    for budget, n in zip(BUDGETS, (rows_to_choose(SHARE, eligible), 2 * pool.subspace.rank), strict=True):
        for deduplicate, places in kept.items():
            rows = pool.coordinates.rows[places]
            instruction = pool.coordinates.instruction
            candidates = Candidates(
                rows=rows,
                scores=pool.scores[places],
                draws=draws[rows],
                vision=pool.coordinates.vision[places],
                instruction=None if instruction is None else instruction[places],
                seed=seed,
            )
            chosen[budget, deduplicate, RANDOM] = random_choice(places, n, seed, "random choice")
            for name, strategy in STRATEGIES.items():
                if "instruction" not in strategy.needs or instruction is not None:
                    selection = select_rows(candidates, n, strategy=name)
                    chosen[budget, deduplicate, name] = np.searchsorted(pool.coordinates.rows, selection.rows)
    return chosen


def without_copies(pool: ScoredPool) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
    """Return for each deduplication the places that are left, ascending, and how many rows are copies of which kind.

    As `scalselect select` finds them; but rows of vectors alone, where it has no exact copies, are exact copies where
    their vectors are equal.
    """
    everything = np.arange(len(pool.scores))
    copy_of = first_copies(pool.keys, order_by_score(pool.scores, everything))  # [rows]
    config = SelectConfig(budget=(SHARE,), deduplicate="near", near_bound=NEAR_BOUND)
    found = candidate_rows(pool.run, config, Silent())
    kept = {
        "none": everything,
        "exact": np.flatnonzero(copy_of < 0),
        "near": np.flatnonzero(~np.isin(pool.coordinates.rows, found.copies)),
    }
    return kept, {
        "exact copies": len(everything) - len(kept["exact"]),
        "exact and near copies": len(found.copies),
        "near-copies of other questions about the same images": found.same_image_copies,
    }


def measure(pool: ScoredPool, places: NDArray[np.int64]) -> Measured:
    """Measure the choice of the rows at some places."""
    vectors = pool.vectors[places]
    points = pool.coordinates.vision.astype(np.float64) * whitening_scale(len(pool.scores), pool.subspace.rank)
    error = reconstruction_errors(pool.vectors, vectors, pool.subspace.rank)["leading"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T  # [chosen, chosen]
    np.fill_diagonal(cosines, -1.0)
    content = np.unique(pool.keys[places], axis=0, return_inverse=True)[1].reshape(-1)
    moved = float("nan")
    if pool.groups is not None:
        size = int(pool.groups.max()) + 1
        shares = [np.bincount(groups, minlength=size) / len(groups) for groups in (pool.groups, pool.groups[places])]
        moved = float(np.abs(shares[1] - shares[0]).sum() / 2)
    return Measured(
        error=100 * (error - (1 - pool.subspace.energy)),
        coverage=coverage_measures(points, [points[places]])["mean_distance"],
        near=100 * float(np.mean(cosines.max(axis=1) >= NEAR_BOUND)),
        copies=100 * copies(content) / len(places),
        moved=100 * moved,
    )


def print_table(
    source: Source, pools: Sequence[ScoredPool], copies_found: dict[str, list[int]], done: dict[Key, list[Measured]]
) -> None:
    """Print one pool's facts and a line for each budget, deduplication and strategy."""
    ranks = [pool.subspace.rank for pool in pools]
    rows, hidden = pools[0].vectors.shape
    smallest = _spread([100 * (1 - pool.subspace.energy) for pool in pools])
    print(f"\n=== {source.title}\n{source.description}")
    print(f"{rows} rows of {hidden} numbers; k = {_spread(ranks, whole=True)}; smallest error possible {smallest}")
    print("; ".join(f"{what}: {_spread(counts, whole=True)}" for what, counts in copies_found.items()))
    sizes = {BUDGETS[0]: [rows_to_choose(SHARE, rows)], BUDGETS[1]: [2 * rank for rank in ranks]}
    for budget, n in sizes.items():
        plain = {name: found for (size, way, name), found in done.items() if (size, way) == (budget, "none")}
        for deduplicate in get_args(Deduplicate):
            lines = {name: done[budget, deduplicate, name] for name in plain}
            title = f"{budget}, n = {_spread(n, whole=True)}, --deduplicate {deduplicate}"
            if deduplicate != "none" and lines == plain:
                print(f"\n{title}: the same rows as without")
                continue
            print(f"\n{title}\n{HEADINGS}")
            for name, found in lines.items():
                print(_line(name, found, None if found is plain[RANDOM] else plain[RANDOM]))


def _line(name: str, found: list[Measured], random: list[Measured] | None) -> str:
    error, coverage, near, copied, moved = zip(*found, strict=True)
    ratios = ["", ""] if random is None else [_ratio(found, random, measure) for measure in ("error", "coverage")]
    told = "-" if math.isnan(moved[0]) else _spread(moved, whole=True)
    return (
        f"{name:23}{_spread(error):>18}{ratios[0]:>10}{_spread(coverage):>18}{ratios[1]:>10}"
        f"{_spread(near, whole=True):>12}{statistics.median(copied):>7.0f}{told:>12}"
    )


def _spread(values: Sequence[float], *, whole: bool = False) -> str:
    middle, low, high = (
        f"{value:.0f}" if whole else f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004  three digits
        for value in (statistics.median(values), min(values), max(values))
    )
    return middle if low == high else f"{middle} ({low}..{high})"


def _ratio(found: Sequence[Measured], random: Sequence[Measured], measure: str) -> str:
    pairs = [(getattr(one, measure), getattr(other, measure)) for one, other in zip(found, random, strict=True)]
    below = sum(value < other for value, other in pairs)
    return f"{statistics.median(value / other for value, other in pairs):.2f} {below}/{len(pairs)}"


def print_facts(seeds: int) -> None:
    """Print what the numbers depend on, and what they are."""
    versions = (f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "scikit-learn", "torch"))
    print(f"command   {' '.join(['python', 'benchmarks/strategies.py', *sys.argv[1:]])}")
    print(f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC")
    print(f"machine   {platform.machine()}, {os.cpu_count()} cores, {THREADS} thread")
    print(f"software  {', '.join(versions)}, transformers {metadata.version('transformers')}")
    print(f"seeds     {seeds}; a synthetic pool is drawn anew for each, the others stay")
    print(f"\n{MEASURES}", flush=True)


if __name__ == "__main__":
    main()

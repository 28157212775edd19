"""How large is what lies outside the promise of equal bytes: other threads, batches, order, number types; in one table.

``python benchmarks/determinism.py [--rows 200] [--quick]`` builds a random checkpoint of LLaVA shape (336 pixels, 576
vision tokens an image), runs the same real easy-VQA rows again and again, each time with one thing changed, and holds
vectors, kept tokens, scores and choice against the first run. Runs that are promised to be equal stand in the table
too, and must be: exit status 1 if not. The weights are random: the table shows how rounding passes through the method.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers

import scalselect
from scalselect.run_folder import RunFolder
from scalselect.shard_work import ShardWork
from scalselect.vlm import settings, window

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))
from build_demo import build_demo, make_pool
from dtypes import QUICK_SHAPE, SHAPE
from tiny_llava import build_llava

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FIRST = {"threads": 1, "dtype": "float32", "device": "cpu", "shard_size": 64, "budget": "16%", "dataloader_workers": 0}
WIDE_BUDGET = 8192  # tokens of a padded batch, four times what `auto` takes on a CPU


class Found(NamedTuple):
    """What a run made, of the rows that have vectors, in pool order.

    `vectors` [scored, hidden], `kept` by row, `scores` [scored], `chosen` rows.
    """

    vectors: NDArray[np.float32]
    kept: dict[int, tuple[int, ...]]
    scores: NDArray[np.float64]
    chosen: frozenset[int]


@dataclass(frozen=True)
class Way:
    """A run with one thing changed.

    `promised`: nothing may differ. `around`: what is in force while it runs.
    """

    name: str
    options: dict[str, Any]
    promised: bool = False
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def halved_batches() -> contextlib.AbstractContextManager[Any]:
    """Let every batch of several rows run out of memory, so that it is halved down to single rows."""
    launch = window.launch_batch

    def starved(checkpoint: Any, samples: Any, *arguments: Any, **options: Any) -> Any:
        if len(samples) > 1:
            raise MemoryError
        return launch(checkpoint, samples, *arguments, **options)

    return mock.patch.object(window, "launch_batch", starved)


def wide_batches() -> contextlib.AbstractContextManager[Any]:
    """Let `auto` stand for a larger token budget, as another device or release may have it."""
    return mock.patch.dict(settings._BATCH_TOKENS, {"cpu": WIDE_BUDGET})  # noqa: SLF001  there is no option


WAYS = [
    Way("the same again", {}, promised=True),
    Way("two processes that prepare samples", {"dataloader_workers": 2}, promised=True),
    Way("two threads", {"threads": 2}),
    Way(f"batch budget {WIDE_BUDGET} tokens, not 2048", {}, around=wide_batches),
    Way("batches of one row", {"batch_size": 1}),
    Way("every batch halved, memory ran out", {}, around=halved_batches),
    Way("image reuse off", {"image_reuse": "off"}),
    Way("shards in image order", {"order": "image"}),
    Way("shards of 50 rows, not 64", {"shard_size": 50}),
    Way("dtype float16", {"dtype": "float16"}),
    Way("dtype bfloat16", {"dtype": "bfloat16"}),
]
ON_A_GPU = [Way(f"CUDA, {dtype}", {"device": "cuda", "dtype": dtype}) for dtype in ("float32", "float16", "bfloat16")]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rows: shows only that it runs")
    options = parser.parse_args()
    rows = 100 if options.quick else options.rows
    ways = WAYS + (ON_A_GPU if torch.cuda.is_available() else [])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with contextlib.redirect_stdout(sys.stderr):
            build_demo(folder, max(100, rows))
        texts = [turn["value"] for record in make_pool(max(100, rows)) for turn in record["conversations"]]
        model = build_llava(folder / "model", texts=texts, **(QUICK_SHAPE if options.quick else SHAPE))
        first = found_by(folder, model, Way("first", {}))
        costs = [(way, differences(first, found_by(folder, model, way))) for way in ways]
    print_table(first, costs, quick=options.quick)
    return int(any(way.promised and cost["vectors"] for way, cost in costs))


def found_by(folder: Path, model: Path, way: Way) -> Found:
    """Run the pool in one way and read what lies in the run folder; the kept tokens are noted on their way."""
    kept: dict[int, tuple[int, ...]] = {}
    rows: list[int] = []
    flush, represent = ShardWork._flush, window.WindowPass.represent  # noqa: SLF001  kept sets are not stored

    def noting_rows(work: ShardWork, state: Any) -> None:
        rows[:] = [record.identity.row for record, _ in state.window]
        flush(work, state)

    def noting_kept(work: Any, samples: Any) -> Any:
        for place, result in represent(work, samples):
            kept[rows[place]] = tuple(result.kept)
            yield place, result

    sys.stderr.write(f"{way.name}\n")
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        way.around(),
        mock.patch.object(ShardWork, "_flush", noting_rows),
        mock.patch.object(window.WindowPass, "represent", noting_kept),
    ):
        given = {**FIRST, **way.options}
        scalselect.run(folder / "pool.json", model=model, output=Path(out) / "run", **given)
        store = RunFolder(Path(out) / "run").store
        shards = range(len(list(store.folder.glob("*.safetensors"))))
        places, blocks = zip(*store.blocks(shards), strict=True)
        order = np.argsort(np.concatenate(places))
        table = pq.read_table(Path(out) / "run" / "scores.parquet")
        scores = table["leverage_score"].drop_null().to_numpy()
        chosen = np.flatnonzero(table["selected"].to_numpy(zero_copy_only=False))
    return Found(np.concatenate(blocks)[order], kept, scores, frozenset(chosen.tolist()))


def differences(first: Found, other: Found) -> dict[str, float]:
    """Return shares of rows and largest relative differences between two runs of the same pool."""
    X, Y = first.vectors.astype(np.float64), other.vectors.astype(np.float64)
    apart = np.linalg.norm(Y - X, axis=1) / np.linalg.norm(X, axis=1)  # [scored]
    relative = np.abs(other.scores - first.scores) / first.scores  # [scored]
    flipped = [row for row, tokens in first.kept.items() if other.kept[row] != tokens]
    return {
        "vectors": float(np.any(X != Y, axis=1).mean()),
        "kept": len(flipped) / len(first.kept),
        "vector": float(apart.max()),
        "median": float(np.median(relative)),
        "score": float(relative.max()),
        "common": len(first.chosen & other.chosen) / len(first.chosen),
    }


def print_table(first: Found, costs: list[tuple[Way, dict[str, float]]], *, quick: bool) -> None:
    """Print the table with the facts of the run."""
    cuda = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", CPU arithmetic alone: no GPU here"
    facts = {
        "command": " ".join(["python", "benchmarks/determinism.py", *sys.argv[1:]]),
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores{cuda}",
        "software": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "shape": "the tiny default" if quick else ", ".join(f"{name} {n}" for name, n in SHAPE.items()),
        "rows": f"{len(first.scores)} of easy-VQA, {len(first.chosen)} chosen",
        "first run": ", ".join(f"{name} {value}" for name, value in FIRST.items() if name != "budget"),
    }
    for name, fact in facts.items():
        print(f"{name:<11}{fact}")
    heads = ("other bytes", "other kept set", "vector, largest", "score, median", "score, largest", "16% in common")
    print(f"\n{'changed':<40}" + "".join(f"{head:>17}" for head in heads))
    for way, cost in costs:
        cells = [f"{cost['vectors']:.1%}", f"{cost['kept']:.1%}"]
        cells += [f"{cost[name]:.1e}" if cost[name] else "0" for name in ("vector", "median", "score")]
        print(f"{way.name:<40}" + "".join(f"{cell:>17}" for cell in [*cells, f"{cost['common']:.1%}"]))
    print("\nother bytes, other kept set: share of rows; vector, score: relative difference to the first run")


if __name__ == "__main__":
    sys.exit(main())

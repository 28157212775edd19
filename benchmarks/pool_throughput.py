"""Rows a second from files to stored vectors, with and without image reuse, in one table.

``python benchmarks/pool_throughput.py [--rows 100] [--pairs 5] [--quick]`` takes real easy-VQA questions: once five a
picture, one after the other, as many pools are before they are shuffled, and once drawn at random from all pictures. A
random checkpoint of LLaVA shape (336 pixels, 576 vision tokens) represents each pool with reuse on and off, alternately
in one process; both must agree. The time includes reading, decoding, preprocessing and writing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import easy_vqa
import numpy as np
import torch
import transformers
from threadpoolctl import threadpool_limits

from scalselect.config import RepresentConfig
from scalselect.dataset.pool import open_pool
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm.checkpoint import Checkpoint, load_checkpoint
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.settings import library_versions, resolve_settings

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))
from tiny_llava import build_llava

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THREADS = 1
QUESTIONS_AN_IMAGE = 5
VECTOR_TOLERANCE = 1e-4
SHAPE = {
    "image_size": 336,
    "vision_layers": 12,
    "vision_hidden": 512,
    "vision_heads": 8,
    "text_layers": 2,
    "text_hidden": 768,
    "text_heads": 12,
}


class Pass(NamedTuple):
    """One pass over a pool: wall-clock seconds, seconds inside the model, vectors float32 [rows, hidden]."""

    seconds: float
    model_seconds: float
    vectors: NDArray[np.float32]


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rows: shows only that it runs")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows, pairs = (20, 2) if options.quick else (options.rows, options.pairs)
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(limits=THREADS):
        folder = Path(scratch)
        pools = {"five questions an image, in order": in_image_order(rows), "drawn at random": at_random(rows)}
        texts = [turn["value"] for records in pools.values() for record in records for turn in record["conversations"]]
        model = build_llava(folder / "model", texts=texts, **({} if options.quick else SHAPE))
        checkpoints = {reuse: load(model, reuse) for reuse in ("on", "off")}
        print_facts(rows, pairs)
        agree = [report(folder, name, records, checkpoints, pairs) for name, records in pools.items()]
    return 0 if all(agree) else 1


def in_image_order(rows: int) -> list[dict[str, object]]:
    """Return five questions about each picture, one after the other."""
    asked: dict[int, list[tuple[str, str]]] = {}
    for question, answer, image in zip(*easy_vqa.get_train_questions(), strict=True):
        asked.setdefault(image, []).append((question, answer))
    many = [(image, pairs) for image, pairs in sorted(asked.items()) if len(pairs) >= QUESTIONS_AN_IMAGE]
    picked = many[: rows // QUESTIONS_AN_IMAGE]
    return [record(image, *pair) for image, pairs in picked for pair in pairs[:QUESTIONS_AN_IMAGE]]


def at_random(rows: int) -> list[dict[str, object]]:
    """Return questions drawn from all pictures."""
    all_questions = list(zip(*easy_vqa.get_train_questions(), strict=True))
    chosen = random.Random(0).sample(all_questions, rows)
    return [record(image, question, answer) for question, answer, image in chosen]


def record(image: int, question: str, answer: str) -> dict[str, object]:
    """Return a LLaVA record of one question."""
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"image": str(easy_vqa.get_train_image_paths()[image]), "conversations": turns}


def load(model: Path, reuse: str) -> tuple[RepresentConfig, Checkpoint]:
    """Load the checkpoint under a configuration with reuse on or off."""
    config = RepresentConfig(image_reuse=reuse, device="cpu", threads=THREADS)
    return config, load_checkpoint(str(model), config, resolve_settings(config, str(model), None))


def one_pass(folder: Path, data: Path, config: RepresentConfig, checkpoint: Checkpoint) -> Pass:
    """Represent a whole pool into a new store."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        store = RepresentationStore(Path(place))
        settings = resolve_settings(config, str(folder / "model"), None)
        work = ShardWork(open_pool(data), checkpoint, store, config, settings, library_versions())
        begin = time.perf_counter()
        done = work(0)
        return Pass(time.perf_counter() - begin, done.seconds["model"], store.representations(0)[1])


def report(
    folder: Path,
    name: str,
    records: Sequence[dict[str, object]],
    checkpoints: dict[str, tuple[RepresentConfig, Checkpoint]],
    pairs: int,
) -> bool:
    """Measure one pool, print its rows of the table, and return whether both ways agree."""
    data = folder / f"{name.replace(' ', '-')}.json"
    data.write_text(json.dumps(records))
    for config, checkpoint in checkpoints.values():
        one_pass(folder, data, config, checkpoint)  # warm-up
    passes: dict[str, list[Pass]] = {"on": [], "off": []}
    for number in range(pairs):
        for reuse in ("on", "off") if number % 2 else ("off", "on"):
            passes[reuse].append(one_pass(folder, data, *checkpoints[reuse]))
    on, off = passes["on"], passes["off"]
    difference = np.abs(on[0].vectors - off[0].vectors).max() / np.abs(off[0].vectors).max()
    print(f"\n{name}: {len(records)} rows, {share_reused(records):.0%} of images reused")
    for reuse, done in passes.items():
        speed = [len(records) / one.seconds for one in done]
        waiting = statistics.median(1 - one.model_seconds / one.seconds for one in done)
        print(f"  reuse {reuse:<4}{_spread(speed)} rows/s, the model waits {waiting:.0%} of the time")
    print(f"  ratio     {_spread([b.seconds / a.seconds for a, b in zip(on, off, strict=True)])}")
    print(f"  largest difference of a vector / largest value: {difference:.1e} (allowed: {VECTOR_TOLERANCE:.0e})")
    return bool(difference <= VECTOR_TOLERANCE)


def share_reused(records: Sequence[dict[str, object]]) -> float:
    """Return the share of images that were seen before and are still remembered, as the cache would find them."""
    remembered = ImageFeatureCache().capacity
    known: dict[object, None] = {}
    hits = 0
    for item in records:
        hits += item["image"] in known
        known.pop(item["image"], None)
        known[item["image"]] = None
        for oldest in list(known)[: max(0, len(known) - remembered)]:
            del known[oldest]
    return hits / len(records)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def print_facts(rows: int, pairs: int) -> None:
    """Print what the numbers depend on."""
    print(f"command   {' '.join(['python', 'benchmarks/pool_throughput.py', *sys.argv[1:]])}")
    print(f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC")
    print(f"machine   {platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f} at the start")
    print(f"software  torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"threads   {THREADS}, float32; {rows} rows a pool, {pairs} alternated pairs; median (lowest..highest)")


if __name__ == "__main__":
    sys.exit(main())

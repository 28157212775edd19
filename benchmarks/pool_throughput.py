"""Rows a second from files to stored vectors: image reuse, order of work, processes beside the model, in one table.

``python benchmarks/pool_throughput.py [--rows 100] [--pairs 5] [--quick]`` takes real easy-VQA questions: five a
picture, one after the other, as many pools are before they are shuffled; the same ones shuffled, in shards that hold a
quarter of them; and once drawn at random from all pictures, as a shard of a large shuffled pool is. A random model of
LLaVA shape (336 pixels, 576 vision tokens) represents each pool in every way, alternately in one process; all must
agree. The time includes reading, decoding, preprocessing and writing.
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
from scalselect.dataset.opening import open_pool
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm.checkpoint import Checkpoint, load_checkpoint
from scalselect.vlm.rehearsal import rehearse
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


OFF = {"image_reuse": "off", "dataloader_workers": 0}
ON = {"image_reuse": "on", "dataloader_workers": 0}
WAYS: dict[str, dict[str, object]] = {
    "reuse off": OFF,
    "reuse off, a process beside the model": {**OFF, "dataloader_workers": 1},
    "reuse on": ON,
    "reuse on, image order": {**ON, "order": "image"},
    "reuse on, image order, a process": {**ON, "order": "image", "dataloader_workers": 1},
}


class Pass(NamedTuple):
    """One pass over a pool: seconds in all and waited for samples, images computed, vectors float32 [rows, hidden]."""

    seconds: float
    waited: float
    images_computed: int
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
    in_order = in_image_order(rows)
    shuffled = random.Random(1).sample(in_order, len(in_order))
    pools = {
        "five questions an image, in order": (in_order, rows),
        "five questions an image, shuffled, four shards": (shuffled, rows // 4),
        "drawn at random from 4,000 images": (at_random(rows), rows),
    }
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(limits=THREADS):
        folder = Path(scratch)
        texts = [turn["value"] for records, _ in pools.values() for item in records for turn in item["conversations"]]
        model = build_llava(folder / "model", texts=texts, **({} if options.quick else SHAPE))
        config = RepresentConfig(device="cpu", threads=THREADS)
        checkpoint = load_checkpoint(str(model), config, resolve_settings(config, str(model), None))
        checkpoint = rehearse(checkpoint, config)
        print_facts(rows, pairs)
        agree = []
        for name, (records, shard_size) in pools.items():
            data = folder / f"pool-{len(agree)}.json"
            data.write_text(json.dumps(records))
            agree.append(report(name, data, checkpoint, shard_size, pairs=pairs))
    return 0 if all(agree) else 1


def one_pass(data: Path, checkpoint: Checkpoint, shard_size: int, way: dict[str, object]) -> Pass:
    """Represent a whole pool into a new store."""
    config = RepresentConfig(device="cpu", threads=THREADS, shard_size=shard_size, **way)
    settings = resolve_settings(config, str(data.parent / "model"), None)
    with tempfile.TemporaryDirectory(dir=data.parent) as place:
        store = RepresentationStore(Path(place))
        begin = time.perf_counter()
        pool = open_pool(data)
        work = ShardWork(
            pool,
            checkpoint,
            store,
            config,
            settings,
            library_versions(),
            order=pool.in_image_order() if config.order == "image" else None,
        )
        shards = range(-(-len(pool) // shard_size))
        reports = [work(shard) for shard in shards]
        seconds = time.perf_counter() - begin
        rows, vectors = (np.concatenate(parts) for parts in zip(*store.blocks(shards), strict=True))
        return Pass(
            seconds,
            sum(done.seconds["wait"] for done in reports),
            sum(done.reuse["images_computed"] for done in reports) if config.image_reuse == "on" else len(pool),
            vectors[np.argsort(rows)],
        )


def report(name: str, data: Path, checkpoint: Checkpoint, shard_size: int, *, pairs: int) -> bool:
    """Measure one pool, print its rows of the table, and return whether all ways agree."""
    done: dict[str, list[Pass]] = {way: [] for way in WAYS}
    for number in range(pairs + 1):  # the first round warms up
        for way in sorted(WAYS, reverse=bool(number % 2)):
            measured = one_pass(data, checkpoint, shard_size, WAYS[way])
            if number:
                done[way].append(measured)
    plain = done["reuse off"]
    rows = len(plain[0].vectors)
    print(f"\n{name}: {rows} rows in shards of {shard_size}")
    print(f"  {'':38}{'rows/s':>20}{'ratio of pairs':>20}{'waits':>7}{'tower':>7}{'difference':>12}")
    differences = []
    for way, passes in done.items():
        speed = _spread([rows / one.seconds for one in passes])
        ratio = _spread([one.seconds / other.seconds for one, other in zip(plain, passes, strict=True)])
        waits = statistics.median(one.waited / one.seconds for one in passes)
        tower = passes[0].images_computed / rows
        differences.append(np.abs(passes[0].vectors - plain[0].vectors).max() / np.abs(plain[0].vectors).max())
        print(f"  {way:38}{speed:>20}{ratio:>20}{waits:>7.1%}{tower:>7.0%}{differences[-1]:>12.1e}")
    return bool(max(differences) <= VECTOR_TOLERANCE)


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

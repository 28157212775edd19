"""What half precision costs: kept sets, vectors, scores and choice beside float32, in one table.

``python benchmarks/dtypes.py [--rows 400] [--quick]`` builds a random checkpoint of LLaVA shape (336 pixels, 576 vision
tokens an image) and represents the same real easy-VQA rows in float32, bfloat16 and float16. Only the digits are
compared, not the time. The weights are random, so the table shows how rounding passes through the method, not what a
trained model's attention makes of it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import transformers

from scalselect.config import RepresentConfig
from scalselect.dataset.opening import open_pool
from scalselect.image_files import open_image
from scalselect.records import Sample
from scalselect.selection.candidates import Candidates
from scalselect.selection.selecting import select_rows
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.representation import Pooling, SampleRepresentation, represent_samples
from scalselect.vlm.settings import resolve_settings

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))
from build_demo import build_demo, make_pool
from tiny_llava import build_llava

if TYPE_CHECKING:
    from numpy.typing import NDArray

THREADS = 1
SHARE_CHOSEN = 0.16
BATCH = 4
SHAPE = {
    "image_size": 336,
    "vision_layers": 6,
    "vision_hidden": 256,
    "vision_heads": 4,
    "text_layers": 2,
    "text_hidden": 512,
    "text_heads": 8,
}
QUICK_SHAPE: dict[str, int] = {}  # the tiny shape that `build_llava` has by default


class Cost(NamedTuple):
    """One number type beside float32.

    `flipped`: share of rows with another kept set; `tokens`: share of vision tokens on which the sets differ, of all
    rows; `cosine_same` and `cosine_flipped`: lowest and median cosine of centred vectors, of rows with equal kept sets
    and of the others; `score`: median and largest difference of scores, relative; `overlap`: share of the chosen rows.
    """

    flipped: float
    tokens: float
    cosine_same: tuple[float, float]
    cosine_flipped: tuple[float, float]
    score: tuple[float, float]
    overlap: float
    rank: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few rows: shows only that it runs")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = 60 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with contextlib.redirect_stdout(sys.stderr):
            build_demo(folder, max(100, rows))
        texts = [turn["value"] for record in make_pool(max(100, rows)) for turn in record["conversations"]]
        model = build_llava(folder / "model", texts=texts, **(QUICK_SHAPE if options.quick else SHAPE))
        samples = [x for x in open_pool(folder / "pool.json", limit=rows).read(0, rows) if isinstance(x, Sample)]
        found = {dtype: represent_all(model, samples, dtype) for dtype in ("float32", "bfloat16", "float16")}
    print_table({dtype: cost_of(found["float32"], found[dtype]) for dtype in ("bfloat16", "float16")}, found, options)


def represent_all(model: Path, samples: list[Sample], dtype: str) -> list[SampleRepresentation]:
    """Represent every sample that can be, in one number type, in batches of a few rows."""
    config = RepresentConfig(dtype=dtype, device="cpu", threads=THREADS)
    checkpoint = load_checkpoint(str(model), config, resolve_settings(config, str(model), None))
    prepared = []
    for sample in samples:
        try:
            pictures = [open_image(image.path).picture for image in sample.images]
        except Exception:  # noqa: BLE001  the pool has bad rows on purpose, the same for every number type
            continue
        if pictures:
            prepared.append(checkpoint.preparer.prepare(sample, pictures))
    found: list[SampleRepresentation] = []
    for start in range(0, len(prepared), BATCH):
        found += represent_samples(checkpoint, prepared[start : start + BATCH], Pooling())[0]
    return found


def cost_of(exact: list[SampleRepresentation], half: list[SampleRepresentation]) -> Cost:
    """Compare a half-precision pass with the float32 one, row by row."""
    differing = [len(set(one.kept.tolist()) ^ set(other.kept.tolist())) for one, other in zip(exact, half, strict=True)]
    flips = np.array(differing) > 0
    X, Y = (np.stack([row.vector for row in rows]).astype(np.float64) for rows in (exact, half))
    cosines = centred_cosines(X, Y)
    (scores, rank), (other, _) = leverage_of(X), leverage_of(Y)
    relative = np.abs(other - scores) / scores
    n = int(SHARE_CHOSEN * len(X))
    chosen, also = (
        set(
            select_rows(Candidates(np.arange(len(X)), as_written(x), np.zeros(len(X))), n, strategy="top-leverage").rows
        )
        for x in (scores, other)
    )
    return Cost(
        flipped=float(flips.mean()),
        tokens=sum(differing) / sum(len(row.kept) for row in exact),
        cosine_same=_lowest_and_median(cosines[~flips]),
        cosine_flipped=_lowest_and_median(cosines[flips]),
        score=(float(np.median(relative)), float(relative.max())),
        overlap=len(chosen & also) / n,
        rank=rank,
    )


def centred_cosines(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each row of X [rows, hidden] and Y [rows, hidden], both less the mean of X."""
    A, B = X - X.mean(axis=0), Y - X.mean(axis=0)
    return np.sum(A * B, axis=1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)  # [rows]


def leverage_of(X: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return the leverage scores [rows] of X [rows, hidden] and the rank of its dominant subspace."""
    sums = ScatterSums(shift_from(X))
    sums.add(X)
    subspace = dominant_subspace(sums, energy=0.9)
    return leverage_scores(X, subspace), subspace.rank


def _lowest_and_median(values: NDArray[np.float64]) -> tuple[float, float]:
    return (float(values.min()), float(np.median(values))) if len(values) else (float("nan"), float("nan"))


def print_table(
    costs: dict[str, Cost], found: dict[str, list[SampleRepresentation]], options: argparse.Namespace
) -> None:
    """Print the table with the facts of the run."""
    kept = [len(row.kept) for row in found["float32"]]
    margins = [row.cut_margin for row in found["float32"] if row.cut_margin is not None]
    facts = {
        "command": " ".join(["python", "benchmarks/dtypes.py", *sys.argv[1:]]),
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, CPU arithmetic",
        "software": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "shape": "the tiny default" if options.quick else ", ".join(f"{name} {n}" for name, n in SHAPE.items()),
        "rows": f"{len(kept)} of easy-VQA, {int(np.median(kept))} kept vision tokens in the median row",
        "float32 cut": f"median distance of the cut from the next cumulative mass {np.median(margins):.1e}",
        "subspace": f"k = {next(iter(costs.values())).rank}",
    }
    for name, fact in facts.items():
        print(f"{name:<13}{fact}")
    print(f"\n{'beside float32':<52}" + "".join(f"{dtype:>20}" for dtype in costs))
    lines = {
        "rows whose kept set differs": lambda c: f"{c.flipped:.1%}",
        "tokens that differ / tokens kept": lambda c: f"{c.tokens:.2%}",
        "centred cosine, same kept set (lowest, median)": lambda c: "{:.5f} {:.5f}".format(*c.cosine_same),
        "centred cosine, other kept set (lowest, median)": lambda c: "{:.5f} {:.5f}".format(*c.cosine_flipped),
        "relative difference of scores (median, largest)": lambda c: "{:.1e} {:.1e}".format(*c.score),
        f"chosen {SHARE_CHOSEN:.0%} in common": lambda c: f"{c.overlap:.1%}",
    }
    for name, show in lines.items():
        print(f"{name:<52}" + "".join(f"{show(cost):>20}" for cost in costs.values()))


if __name__ == "__main__":
    main()

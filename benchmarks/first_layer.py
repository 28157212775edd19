"""The pass up to decoder layer 0 beside the whole model and beside the least work there is: one table a shape.

``python benchmarks/first_layer.py [--layers N] [--triples 11] [--quick]`` builds random checkpoints, LLaVA-like and
Qwen3-VL-like, and runs the same prepared samples in three ways, in turn, in one process: (a) the whole model with
eager attention and all outputs kept, as it is usually done; (b) this package; (c) the limit: vision tower, projector
and one decoder layer with SDPA, called by hand, no attention read. Only the model's part is timed. It exits with 1 if
(a) and (b) disagree on a sample; a missed goal is printed and nothing else. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import transformers
from threadpoolctl import threadpool_limits

from passes import (
    ATTENTION_MASS,
    counted_flops,
    limit_pass,
    load_first_layer,
    load_limit,
    load_whole,
    whole_pass,
)
from process_memory import KINDS, THREADS, Cost, measure_processes, set_up_process
from scalselect.config import RepresentConfig
from scalselect.vlm.checkpoint import Checkpoint, load_checkpoint
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings
from shapes import QUICK_SHAPES, SHAPES, Shape
from weight_bytes import bytes_table, needed_parameters

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))
from direct_reference import VECTOR_TOLERANCE, agreement

if TYPE_CHECKING:
    from scalselect.vlm.batches import PreparedSample

GOAL_OF_LIMIT = 0.9  # speed of (b) over that of (c)
GOAL_OF_FLOPS = 0.8  # speed of (b) over that of (a), over the ratio of their FLOPs
GOAL_SPEED = {"llava": 7.0}  # speed of (b) over that of (a)
COLUMNS = ("(a) whole, eager", "(b) first layer", "(c) limit", "(a) / (b)", "(c) / (b)")


class Triple(NamedTuple):
    """One sample in the three ways: seconds by the clock and of the CPU, and how (a) and (b) agree.

    `difference` is the largest difference of a vector over its largest value.
    """

    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    agreement: str
    difference: float


def main() -> int:
    """Read the command line, measure, print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="Time the truncated pass beside the whole model and the limit.")
    parser.add_argument("--layers", type=int, help="decoder layers of the checkpoints (default: 32 and 24)")
    parser.add_argument("--triples", type=int, help="repetitions of (a), (b), (c) in turn (default: 11)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, 2 triples: shows only that it runs")
    options = parser.parse_args()
    if any(number is not None and number < 1 for number in (options.layers, options.triples)):
        parser.error("--layers and --triples must be at least 1")
    set_up_process()
    print("\n".join(facts()))
    agree = True
    for shape in (QUICK_SHAPES if options.quick else SHAPES).values():
        triples = options.triples or (2 if options.quick else 11)
        agree &= measure(shape, options.layers, triples, repetitions=1 if options.quick else 3)
    return int(not agree)


def measure(shape: Shape, layers: int | None, triples: int, repetitions: int) -> bool:
    """Measure one shape and print its table; return whether (a) and (b) agree on every sample."""
    with tempfile.TemporaryDirectory(prefix="first-layer-benchmark-") as name, threadpool_limits(THREADS):
        folder = Path(name)
        with contextlib.redirect_stderr(None):  # a bar of transformers that its own switch does not reach
            shape.build(folder, layers)
        config = RepresentConfig(device="cpu", dtype="float32", threads=THREADS)
        checkpoint = load_checkpoint(name, config, resolve_settings(config, name, None))
        samples = [shape.prepared_sample(checkpoint.preparer, row) for row in range(triples)]
        costs = measure_processes(folder, samples[0], repetitions)
        whole, limit = load_whole(folder), load_limit(folder)
        flops = {
            "whole": counted_flops(lambda: whole_pass(whole, samples[0])),
            "first": counted_flops(lambda: represent_samples(checkpoint, samples[:1], Pooling())),
            "limit": counted_flops(lambda: limit_pass(limit, samples[0])),
        }
        measured = time_triples(whole, checkpoint, limit, samples)
        truncated = load_first_layer(folder)
        needed = needed_parameters(truncated, samples[0])
        lines = [
            *shape_facts(shape, whole, samples),
            *cost_table(measured, costs),
            *verdicts(shape, measured, flops),
            *bytes_table(truncated, needed, costs),
        ]
    print("\n".join(lines))
    return all(triple.agreement != "different" for triple in measured)


def time_triples(whole: Any, checkpoint: Checkpoint, limit: Any, samples: list[PreparedSample]) -> list[Triple]:
    """Run every sample in the three ways, one after the other, after one warm-up each."""
    pooling = Pooling(attention_mass=ATTENTION_MASS)
    passes = {
        "whole": lambda sample: whole_pass(whole, sample),
        "first": lambda sample: represent_samples(checkpoint, [sample], pooling)[0][0],
        "limit": lambda sample: limit_pass(limit, sample),
    }
    triples = []
    for number, sample in enumerate([samples[0], *samples]):
        # (b) and (c) change places, so that neither always follows the long pass.
        order = KINDS if number % 2 else ("whole", "limit", "first")
        seconds, cpu_seconds, results = {}, {}, {}
        for kind in order:
            begin, cpu_begin = time.perf_counter(), time.process_time()
            results[kind] = passes[kind](sample)
            seconds[kind], cpu_seconds[kind] = time.perf_counter() - begin, time.process_time() - cpu_begin
        if number == 0:  # the warm-up
            continue
        reference, represented = results["whole"], results["first"]
        # Of the same tokens: a flipped token is judged by `agreement`, rounding by this number.
        chosen = np.isin(reference.vision_positions, represented.kept)  # [vision]
        expected = reference.hidden[chosen].mean(axis=0)  # [hidden]
        difference = float(np.abs(represented.vector - expected).max() / np.abs(expected).max())
        found = agreement(represented.kept, represented.vector, reference)
        triples.append(Triple(seconds, cpu_seconds, found, difference))
    return triples


def facts() -> list[str]:
    """Return lines that say where, when and with what this ran."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    load = os.getloadavg()[0]
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start",
        f"software  Python {platform.python_version()}, {versions}",
        f"threads   {THREADS}, float32, inference mode, one sample at a time",
        "columns   (a) whole model, eager attention, all outputs; (b) this package; (c) vision tower, projector and",
        "          one decoder layer by hand, SDPA, no attention read. The same tokens in all three, in turn",
        "cells     median (lowest..highest); ratios are taken pass by pass; goals are held against CPU seconds",
    ]


def shape_facts(shape: Shape, model: Any, samples: list[PreparedSample]) -> list[str]:
    """Return lines that say what was run."""
    tower, text = model.config.vision_config, model.config.text_config
    layers = getattr(tower, "num_hidden_layers", None) or tower.depth
    levels = getattr(tower, "deepstack_visual_indexes", None)
    flat = "image_grid_thw" in samples[0].inputs  # pixels come as [patches, features]
    pixels = samples[0].inputs["pixel_values"]
    patches = len(pixels) if flat else (tower.image_size // tower.patch_size) ** 2
    heads = f"{text.num_attention_heads} query and {text.num_key_value_heads} key heads of {text.head_dim}"
    lengths = [sample.length for sample in samples]
    return [
        "",
        f"=== {shape.name} ({shape.family}) ===",
        f"tower     {layers} layers x {tower.hidden_size}, {patches} patches of {tower.patch_size} pixels"
        + (f", DeepStack after layers {levels}" if levels else ""),
        f"decoder   {text.num_hidden_layers} layers x {text.hidden_size}, MLP {text.intermediate_size}, {heads}",
        f"sample    {len(samples[0].vision)} vision tokens, {min(lengths)}..{max(lengths)} tokens",
    ]


def cost_table(triples: list[Triple], costs: dict[str, list[Cost]]) -> list[str]:
    """Return the lines of the main table."""
    rows = [
        ("seconds a sample", 3, {kind: [triple.seconds[kind] for triple in triples] for kind in KINDS}),
        ("CPU seconds a sample", 3, {kind: [triple.cpu_seconds[kind] for triple in triples] for kind in KINDS}),
        ("MiB of peak memory, pass", 1, _of_processes(costs, "pass_peak", 2**20)),
        ("seconds to load", 3, _of_processes(costs, "load_seconds", 1)),
        ("MiB of peak memory, loading", 1, _of_processes(costs, "load_peak", 2**20)),
        ("MiB of weights read", 1, _of_processes(costs, "read", 2**20)),
        ("MiB of weights materialised", 1, _of_processes(costs, "materialised", 2**20)),
    ]
    lines = ["", f"{'':28}" + "".join(f"{column:>24}" for column in COLUMNS)]
    for name, digits, values in rows:
        cells = [_spread(values[kind], digits) for kind in KINDS]
        cells += [_spread(_ratios(values, kind), 2) for kind in ("whole", "limit")]
        lines.append(f"{name:28}" + "".join(f"{cell:>24}" for cell in cells))
    return lines


def verdicts(shape: Shape, triples: list[Triple], flops: dict[str, int]) -> list[str]:
    """Return the lines that say which goals are met, and how (a) and (b) agree."""
    # One thread on a shared machine: the CPU's seconds are those of the clock, without the others' share.
    seconds = {kind: [triple.cpu_seconds[kind] for triple in triples] for kind in KINDS}
    speed, of_limit = (statistics.median(_ratios(seconds, kind)) for kind in ("whole", "limit"))
    ratio = flops["whole"] / flops["limit"]
    found = [triple.agreement for triple in triples]
    agreements = ", ".join(f"{found.count(word)} {word}" for word in ("equal", "flipped", "different"))
    difference = max(triple.difference for triple in triples)
    counted = ", ".join(f"({letter}) {flops[kind] / 1e9:.2f}" for letter, kind in zip("abc", KINDS, strict=True))
    lines = [
        "",
        f"GFLOP of one sample: {counted}; (a) / (c): {ratio:.2f}",
        "  counted: matrix products, convolutions, QK^T and PV of all query-key pairs; nothing elementwise",
        _verdict("speed of (b) / speed of (c)", of_limit, GOAL_OF_LIMIT),
        _verdict("speed of (b) / speed of (a), over the ratio of FLOPs", speed / ratio, GOAL_OF_FLOPS),
    ]
    if shape.family in GOAL_SPEED:
        lines.append(_verdict("speed of (b) / speed of (a)", speed, GOAL_SPEED[shape.family]))
    return [
        *lines,
        f"kept sets of (a) and (b): {agreements}",
        f"largest difference of a vector / its largest value: {difference:.1e} (allowed: {VECTOR_TOLERANCE:.0e})",
        "",
    ]


def _verdict(name: str, value: float, goal: float) -> str:
    return f"{name}: {value:.2f} (goal: at least {goal:.2f}, {'met' if value >= goal else 'not met'})"


def _of_processes(costs: dict[str, list[Cost]], name: str, unit: float) -> dict[str, list[float]]:
    return {kind: [getattr(cost, name) / unit for cost in measured] for kind, measured in costs.items()}


def _ratios(values: dict[str, list[float]], kind: str) -> list[float]:
    return [one / first for one, first in zip(values[kind], values["first"], strict=True)]


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


if __name__ == "__main__":
    sys.exit(main())

"""The pass up to decoder layer 0 beside the whole model: time, loading, memory and bytes, in one table.

``python benchmarks/first_layer.py [--layers 32] [--pairs 9] [--quick]`` builds a random checkpoint of LLaVA shape (336
pixels, 576 vision tokens) and represents the same prepared samples in two ways, alternately in one process: with the
whole model, eager attention and all outputs kept, as it is usually done, and with the truncated model of this
package. Only the model's part is timed. It exits with 1 if the two disagree on a sample. Linux only: peak memory is
read from ``/proc``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import transformers
from PIL import Image
from threadpoolctl import threadpool_limits
from transformers import AutoModelForImageTextToText, core_model_loading

from scalselect.config import RepresentConfig
from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.checkpoint import Checkpoint, load_checkpoint
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import load_config, resolve_settings
from scalselect.vlm.truncation import load_truncated, truncated_config

sys.path[1:1] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("examples", "tests")]
from direct_reference import VECTOR_TOLERANCE, ReferenceRow, agreement  # noqa: E402
from tiny_llava import build_llava  # noqa: E402

if TYPE_CHECKING:
    from scalselect.vlm.batches import PreparedSample

THREADS = 1
ATTENTION_MASS = 0.9
GOAL_SPEED = 5.0
TEXT = "the a what is which how many where color shape of left right above picture small large red dog on to and"
TOWER = {"image_size": 336, "vision_layers": 12, "vision_hidden": 512, "vision_heads": 8}
LLAVA_SHAPE = TOWER | {"text_layers": 32, "text_hidden": 768, "text_heads": 12}
QUICK_SHAPE = {"text_layers": 3}  # for the rest the tiny shape that `build_llava` has by default


class Pair(NamedTuple):
    """One sample in both ways: seconds, how they agree, largest difference over the vector's largest value."""

    full_seconds: float
    first_seconds: float
    agreement: str
    difference: float


class Loading(NamedTuple):
    """What loading a model cost in a process of its own; `peak` is bytes above those held before, `read` bytes."""

    seconds: float
    peak: int
    read: int


def main() -> int:
    """Read the command line, measure, print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Time the truncated pass beside the whole model.")
    parser.add_argument("--layers", type=int, help="decoder layers of the checkpoint (default: 32)")
    parser.add_argument("--pairs", type=int, help="alternated repetitions (default: 9)")
    parser.add_argument("--quick", action="store_true", help="a tiny shape, 3 layers, 2 pairs: shows only that it runs")
    options = parser.parse_args()
    if any(number is not None and number < 1 for number in (options.layers, options.pairs)):
        parser.error("--layers and --pairs must be at least 1")
    shape = dict(QUICK_SHAPE if options.quick else LLAVA_SHAPE)
    shape["text_layers"] = options.layers or shape["text_layers"]
    _set_up_process()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="first-layer-benchmark-") as name, threadpool_limits(THREADS):
        folder = build_llava(name, texts=[TEXT] * 20, **shape)
        loads = measure_loading(folder, repetitions=1 if options.quick else 3)
        config = RepresentConfig(device="cpu", dtype="float32", threads=THREADS)
        checkpoint = load_checkpoint(name, config, resolve_settings(config, name, None))
        samples = [prepared_sample(checkpoint, row) for row in range(options.pairs or (2 if options.quick else 9))]
        whole, truncated = load_full(folder), load_first_layer(folder)
        pairs = time_pairs(whole, checkpoint, samples)
        needed = needed_parameters(truncated, samples[0])
    table = [*facts(load, whole, samples), *cost_table(pairs, loads), *bytes_table(truncated, needed, loads)]
    print("\n".join(table))
    return int(any(pair.agreement == "different" for pair in pairs))


def load_full(folder: Path) -> Any:
    """Load the whole model as it is usually loaded to read its attention."""
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def load_first_layer(folder: Path) -> Any:
    """Load the model up to its first decoder layer."""
    config = truncated_config(load_config(folder))
    return load_truncated(folder, config, dtype=torch.float32)


def prepared_sample(checkpoint: Checkpoint, row: int) -> PreparedSample:
    """Return a made-up sample; without an answer, because tokens behind the question are cut off before the pass."""
    question = " ".join(random.Random(row).choices(TEXT.split(), k=62))
    turns = (Turn("user", (ImagePart(0), TextPart(question))),)
    identity, images = RowIdentity(row, "benchmark", None, "absent"), (ImageReference("", ""),)
    sample = Sample(identity, turns, images, images_in_front=False, text_sha256="")
    pixels = np.random.default_rng(row).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    return checkpoint.preparer.prepare(sample, [Image.fromarray(pixels)])


@torch.inference_mode()
def full_pass(model: Any, sample: PreparedSample) -> ReferenceRow:
    """Run all layers, keep all outputs, then read the method's attention rows and average."""
    output = model(**sample.inputs, output_attentions=True, output_hidden_states=True, use_cache=False)
    A = output.attentions[0][0].mean(dim=0)  # [sequence, sequence]
    a = A[sample.instruction][:, sample.vision].mean(dim=0).double()  # [vision]
    p = a / a.sum()
    ranked, order = torch.sort(p, descending=True, stable=True)
    count = int((torch.cumsum(ranked, 0) <= ATTENTION_MASS).sum()) + 1
    kept = torch.sort(order[:count]).values
    H = output.hidden_states[1][0][sample.vision]  # [vision, hidden]
    return ReferenceRow(
        input_ids=sample.inputs["input_ids"][0].numpy(),
        vision_positions=sample.vision.numpy(),
        instruction_positions=sample.instruction.numpy(),
        attention=a.numpy(),
        share=p.numpy(),
        hidden=H.double().numpy(),
        kept=sample.vision[kept].numpy(),
        vector=H[kept].mean(dim=0).double().numpy(),
        uniform=False,
        attention_mass=ATTENTION_MASS,
    )


def time_pairs(model: Any, checkpoint: Checkpoint, samples: list[PreparedSample]) -> list[Pair]:
    """Time both ways on every sample, one after the other, after one warm-up each."""
    pairs = []
    for number, sample in enumerate([samples[0], *samples]):
        begin = time.perf_counter()
        reference = full_pass(model, sample)
        middle = time.perf_counter()
        [represented], _ = represent_samples(checkpoint, [sample], Pooling(attention_mass=ATTENTION_MASS))
        end = time.perf_counter()
        if number == 0:  # the warm-up
            continue
        # Of the same tokens: a flipped token is judged by `agreement`, rounding by this number.
        chosen = np.isin(reference.vision_positions, represented.kept)  # [vision]
        expected = reference.hidden[chosen].mean(axis=0)  # [hidden]
        difference = float(np.abs(represented.vector - expected).max() / np.abs(expected).max())
        found = agreement(represented.kept, represented.vector, reference)
        pairs.append(Pair(middle - begin, end - middle, found, difference))
    return pairs


def measure_loading(folder: Path, repetitions: int) -> dict[str, list[Loading]]:
    """Load the whole and the truncated model alternately, each time in a fresh process."""
    loads: dict[str, list[Loading]] = {"full": [], "first": []}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for _ in range(repetitions):
            for kind, measured in loads.items():
                measured.append(processes.submit(_loading_here, kind, folder).result())
    return loads


def _loading_here(kind: str, folder: Path) -> Loading:
    _set_up_process()
    read: list[int] = []
    materialise = core_model_loading._materialize_copy  # noqa: SLF001  the one place where a tensor leaves its file

    def recorded(tensor: Any, *arguments: Any) -> Any:
        whole = materialise(tensor, *arguments)
        read.append(whole.nbytes)
        return whole

    with mock.patch.object(core_model_loading, "_materialize_copy", recorded):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        before = _status_bytes("VmRSS")
        begin = time.perf_counter()
        model = (load_full if kind == "full" else load_first_layer)(folder)
        for parameter in model.parameters():
            parameter.detach().sum()  # the file is only mapped until its pages are touched
        seconds = time.perf_counter() - begin
        peak = _status_bytes("VmHWM") - before
    return Loading(seconds, peak, sum(read))


def needed_parameters(model: Any, sample: PreparedSample) -> set[str]:
    """Return the names of the parameters that a gradient reaches, going back from what the method reads.

    That is decoder layer 0's output at vision tokens and its attention from instruction to vision tokens: a count
    that knows nothing of how the model was truncated. The embedding table counts whole. Key biases count though their
    gradient is 0 but for rounding: they shift all scores of a row alike, which softmax does not see.
    """
    model.set_attn_implementation({"text_config": "eager"})
    layer = model.get_decoder().layers[0]
    outputs: dict[str, Any] = {}
    layer.register_forward_hook(lambda _module, _inputs, output: outputs.update(hidden=output))
    layer.self_attn.register_forward_hook(lambda _module, _inputs, output: outputs.update(attention=output[1]))
    model(**sample.inputs, use_cache=False)
    hidden = outputs["hidden"][0, sample.vision]  # [vision, hidden]
    attention = outputs["attention"][0][:, sample.instruction][:, :, sample.vision]  # [heads, instruction, vision]
    (hidden.sum() + attention.sum()).backward()
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and (parameter.grad.any() or name.endswith("k_proj.bias"))
    }


def facts(load: float, model: Any, samples: list[PreparedSample]) -> list[str]:
    """Return lines that say where, when, with what and on what this ran."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    tower, text = model.config.vision_config, model.config.text_config
    lengths, vision = [sample.length for sample in samples], len(samples[0].vision)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    return [
        f"command   {' '.join(['python', f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}",
        f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start",
        f"software  {versions}",
        f"threads   {THREADS}, float32, inference mode, one sample at a time",
        f"tower     CLIP, {tower.num_hidden_layers} layers x {tower.hidden_size}, {vision} vision tokens",
        f"decoder   Llama, {text.num_hidden_layers} layers x {text.hidden_size}, {min(lengths)}..{max(lengths)} tokens",
    ]


def cost_table(pairs: list[Pair], loads: dict[str, list[Loading]]) -> list[str]:
    """Return the lines of the main table: medians with lowest and highest values; ratios are taken pair by pair."""
    full, first = loads["full"], loads["first"]
    rows = [
        ("seconds a sample", 3, [pair.full_seconds for pair in pairs], [pair.first_seconds for pair in pairs]),
        ("seconds to load", 3, [x.seconds for x in full], [x.seconds for x in first]),
        ("MiB of peak memory to load", 1, [x.peak / 2**20 for x in full], [x.peak / 2**20 for x in first]),
        ("MiB of tensors read", 1, [x.read / 2**20 for x in full], [x.read / 2**20 for x in first]),
    ]
    lines = ["", f"{'median (lowest..highest)':28}{'whole model, eager':>27}{'first layer':>27}{'ratio of pairs':>23}"]
    for name, digits, left, right in rows:
        ratios = [a / b for a, b in zip(left, right, strict=True)]
        lines.append(f"{name:28}{_spread(left, digits):>27}{_spread(right, digits):>27}{_spread(ratios, 2):>23}")
    speed = statistics.median(rows[0][2]) / statistics.median(rows[0][3])
    found = [pair.agreement for pair in pairs]
    difference = max(pair.difference for pair in pairs)
    return [
        *lines,
        "",
        f"ratio of median seconds a sample: {speed:.2f} (goal: at least {GOAL_SPEED:.2f}), {len(pairs)} pairs",
        f"kept sets: {', '.join(f'{found.count(word)} {word}' for word in ('equal', 'flipped', 'different'))}",
        f"largest difference of a vector / its largest value: {difference:.1e} (allowed: {VECTOR_TOLERANCE:.0e})",
        "",
    ]


def bytes_table(model: Any, needed: set[str], loads: dict[str, list[Loading]]) -> list[str]:
    """Return the lines that compare what was materialised with what is needed."""
    sizes = {name: parameter.nbytes for name, parameter in model.named_parameters()}
    materialised, wanted = sum(sizes.values()), sum(sizes[name] for name in needed)
    counts = {
        "tensors of the whole checkpoint": loads["full"][0].read,
        "tensors read from it": loads["first"][0].read,
        "parameters materialised": materialised,
        "parameters needed": wanted,
        "buffers, computed and not read": sum(buffer.nbytes for buffer in model.buffers()),
    }
    return [
        *(f"bytes of {name:33}{count:>15,}" for name, count in counts.items()),
        f"materialised / needed: {materialised / wanted:.4f} (goal: 1.00)",
        *(f"  materialised, not needed: {name} {sizes[name]:,}" for name in sorted(sizes.keys() - needed)),
    ]


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _set_up_process() -> None:
    torch.set_num_threads(THREADS)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())

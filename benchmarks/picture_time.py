"""CPU time from a picture's file to the tensors that the model takes, on one core, in one table.

``python benchmarks/picture_time.py [--pictures 40] [--quick]`` writes JPEG files with the size of an average
COCO picture (640 x 480, 155 kB), because most of LLaVA-665K shows COCO, and takes them through the package's decoding
and the processors of a LLaVA and a Qwen3-VL checkpoint. Opening includes the hash of the file; preparing includes
rendering and tokenising a question. The files lie in the page cache: reading from a disk comes on top.
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
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from PIL import Image
from threadpoolctl import threadpool_limits

from process_memory import set_up_process
from scalselect.config import RepresentConfig
from scalselect.image_files import open_image
from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.settings import resolve_settings
from shapes import LLAVA, QUICK_SHAPES

if TYPE_CHECKING:
    from scalselect.vlm.sample_preparer import SamplePreparer

THREADS = 1
SIZE = (640, 480)
COCO_BYTES = 155_000  # 118,287 pictures of train2017 in 18 GB (cocodataset.org)
QUESTION = "What is the colour of the shape in the picture, and how many of them are there on its left?"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="CPU time to decode and prepare a picture.")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="three pictures: shows only that it runs")
    options = parser.parse_args()
    count = 3 if options.quick else options.pictures
    set_up_process()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="picture-time-") as name, threadpool_limits(THREADS):
        folder = Path(name)
        files = [write_picture(folder / f"{number}.jpg", number) for number in range(count)]
        preparers = build_preparers(folder)
        rows = {kind: [cpu_milliseconds(file, preparer) for file in files] for kind, preparer in preparers.items()}
    size = statistics.median(file_bytes for _, _, file_bytes in next(iter(rows.values())))
    print(f"command   {' '.join(['python', 'benchmarks/picture_time.py', *sys.argv[1:]])}")
    print(f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC")
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    print(f"machine   {cpu or platform.machine()}, {os.cpu_count()} cores, load average {load:.2f} at the start")
    print(f"software  torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"pictures  {count} of {SIZE[0]} x {SIZE[1]} pixels, {size:,.0f} bytes of JPEG; {THREADS} thread, CPU time")
    print(f"\n{'milliseconds, median (lowest..highest)':42}{'open and decode':>24}{'prepare':>24}{'both':>24}")
    for kind, measured in rows.items():
        opened, prepared = [row[0] for row in measured], [row[1] for row in measured]
        both = [sum(pair) for pair in zip(opened, prepared, strict=True)]
        print(f"{kind:42}" + "".join(f"{spread(values):>24}" for values in (opened, prepared, both)))


def build_preparers(folder: Path) -> dict[str, SamplePreparer]:
    """Return the preparers of tiny checkpoints whose processors have the real ones' picture sizes."""
    preparers = {}
    tiny = QUICK_SHAPES["llava"].sizes | {"image_size": LLAVA.sizes["image_size"]}
    llava = type(LLAVA)("LLaVA", "llava", tiny, SIZE)
    qwen = type(LLAVA)("Qwen3-VL", "qwen3_vl", QUICK_SHAPES["qwen3_vl"].sizes, SIZE)
    for name, shape, fit in (
        ("LLaVA, 336 pixels, cropped", llava, "processor"),
        ("LLaVA, 336 pixels, padded to a square", llava, "pad"),
        ("Qwen3-VL, 640 x 480 pixels", qwen, "processor"),
    ):
        with contextlib.redirect_stderr(None):
            path = str(shape.build(folder / shape.family))
        config = RepresentConfig(device="cpu", threads=THREADS, image_fit=fit)
        preparers[name] = load_checkpoint(path, config, resolve_settings(config, path, None)).preparer
    return preparers


def cpu_milliseconds(file: Path, preparer: SamplePreparer) -> tuple[float, float, int]:
    """Return the CPU time to open and to prepare a picture in milliseconds, after a warm-up; and the file's bytes."""
    turns = (Turn("user", (ImagePart(0), TextPart(QUESTION))),)
    identity, images = RowIdentity(0, "benchmark", None, "absent"), (ImageReference("", ""),)
    sample = Sample(identity, turns, images, images_in_front=False, text_sha256="")
    for _ in range(2):
        begin = time.process_time()
        image = open_image(str(file))
        middle = time.process_time()
        preparer.prepare(sample, [image.picture])
        end = time.process_time()
    return 1e3 * (middle - begin), 1e3 * (end - middle), image.bytes


def write_picture(path: Path, seed: int) -> Path:
    """Write noise of all scales, as photographs have, at the JPEG quality that comes nearest to `COCO_BYTES`."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((SIZE[1], SIZE[0], 3))
    for cell in (160, 80, 40, 20, 10, 5, 2, 1):
        grid = generator.normal(0, 1, (SIZE[1] // cell, SIZE[0] // cell, 3))
        channels = [Image.fromarray(grid[..., i].astype(np.float32)) for i in range(3)]
        pixels += cell**0.25 * np.stack(
            [channel.resize(SIZE, Image.Resampling.BICUBIC) for channel in channels], axis=-1
        )
    pixels = 128 + 50 * pixels / pixels.std()
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    for quality in range(95, 20, -1):
        picture.save(path, quality=quality)
        if path.stat().st_size <= COCO_BYTES:
            break
    return path


def spread(values: list[float]) -> str:
    """Return median, lowest and highest value."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


if __name__ == "__main__":
    main()

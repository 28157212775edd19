"""How fast `check` goes beside what it cannot do without: reading and decoding, in two tables.

``python benchmarks/checking.py [--rows 600000] [--pictures 400] [--repeats 3] [--quick]`` writes that many LLaVA
records of ordinary length, and looks at them without decoding, with and without a trainer's rules, beside the pool's
own reading in one process and a plain read of the file with msgspec's decoding of every record. Then it decodes JPEG
files of an average COCO picture's size by check and by a plain loop. Each is done in turn; check uses one process for
each CPU that it may use.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import scalselect
from picture_time import write_picture
from process_memory import set_up_process
from scalselect.engines.processes import usable_cpus
from scalselect.image_files import open_image

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER = "The picture shows a street with several people, two parked cars and a sign that is partly covered. " * 12
ROWS_A_PICTURE = 2  # that name the same picture, far from one another


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of `scalselect check`.")
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small files: shows only that it runs")
    options = parser.parse_args()
    rows, pictures, repeats = options.rows, options.pictures, options.repeats
    if options.quick:
        rows, pictures, repeats = 2_000, 8, 1
    set_up_process()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="checking-") as name:
        folder = Path(name)
        records = write_records(folder / "records.json", rows)
        shown = write_pictures(folder, pictures)
        without = measured(
            repeats,
            {
                "pool read, one process": lambda: pool_read(records),
                "plain read and msgspec, one process": lambda: plain_read(records),
                "check --decode off": lambda: check(records, decode="off"),
                "the same with --like llamafactory": lambda: check(records, decode="off", like="llamafactory"),
            },
        )
        files = sorted(folder.glob("*.jpg"))
        decoded = measured(
            repeats,
            {
                "open_image, one process": lambda: plain_decode(files),
                "check": lambda: check(shown),
                "check, one process": lambda: check(shown, dataloader_workers=1),
            },
        )
        size = records.stat().st_size
    print(f"command   {' '.join(['python', 'benchmarks/checking.py', *sys.argv[1:]])}")
    print(f"date      {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC")
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("model name\t: ")[2].partition("\n")[0]
    print(f"machine   {cpu or platform.machine()}, {usable_cpus()} CPUs usable, load average {load:.2f} at the start")
    print_table(f"{rows:,} records, {size / 1e6:,.0f} MB, images only looked for", without, rows)
    print_table(f"{pictures:,} JPEG files of 640 x 480, {ROWS_A_PICTURE} rows each", decoded, pictures)


def check(data: Path, **options: object) -> None:
    """Check a data set whose images are all missing or all there."""
    scalselect.check(data, **options)


def pool_read(data: Path) -> None:
    """Read every record as a sample, as a run does."""
    pool = scalselect.open_pool(data)
    for _ in pool.read(0, len(pool)):
        pass


def plain_read(data: Path) -> None:
    """Read a file whole and decode every record's fields: what no reader of JSON can do without."""
    records = msgspec.json.decode(data.read_bytes(), type=list[msgspec.Raw])
    for record in records:
        msgspec.json.decode(record)


def plain_decode(files: list[Path]) -> None:
    """Open every picture once."""
    for file in files:
        open_image(str(file))


def write_records(path: Path, rows: int) -> Path:
    """Write LLaVA records of about 1.5 kB; the picture of each is there."""
    picture = path.with_name("small.png")
    write_picture(picture, 0)
    with path.open("w", encoding="utf-8") as stream:
        for row in range(rows):
            turns = [
                {"from": "human", "value": f"<image>\nWhat does picture {row} show?"},
                {"from": "gpt", "value": ANSWER},
            ]
            record = {"id": f"{row:09d}", "image": picture.name, "conversations": turns}
            stream.write(("[" if row == 0 else ",\n") + json.dumps(record))
        stream.write("]\n")
    return path


def write_pictures(folder: Path, pictures: int) -> Path:
    """Write pictures and records that name each of them `ROWS_A_PICTURE` times."""
    for number in range(pictures):
        write_picture(folder / f"{number}.jpg", number % 20)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    rows = [{"image": f"{row % pictures}.jpg", "conversations": turns} for row in range(ROWS_A_PICTURE * pictures)]
    path = folder / "shown.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def measured(repeats: int, ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each way, done in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]], items: int) -> None:
    """Print medians, and how each compares with the first."""
    first = statistics.median(next(iter(seconds.values())))
    print(f"\n{title}")
    print(f"{'median (lowest..highest)':38}{'seconds':>24}{'a second':>12}{'of the first':>14}")
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"{median:.2f} ({min(values):.2f}..{max(values):.2f})"
        print(f"{name:38}{spread:>24}{items / median:>12,.0f}{median / first:>14.2f}")


if __name__ == "__main__":
    main()

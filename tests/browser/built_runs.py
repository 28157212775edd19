"""Runs that are looked at: a small one of the demo's pictures, and one of 600,000 rows."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

import scalselect
from build_demo import build_demo
from large_runs import large_run
from scalselect.explanations_file import Explanation, Explanations, write_explanations
from scalselect.report_page.shown_rows import explained_rows, shown_rows
from scalselect.run_folder import RunFolder
from scalselect.segments import shards_of
from small_pools import command

ROWS, LARGE = 440, 600_000  # so many that every group of samples has some, and some rows are in none


def build_small(folder):
    """Write a pool in two files, a run over them with strata, attention of the shown rows, and the page."""
    build_demo(folder, ROWS)
    records = json.loads((folder / "pool.json").read_text())
    for name, some in (("shapes", records[: ROWS * 2 // 3]), ("colours", records[ROWS * 2 // 3 :])):
        (folder / f"{name}.json").write_text(json.dumps(some))
    data = [f"{name}={folder / name}.json" for name in ("shapes", "colours")]
    options = ["--model", folder / "checkpoint", "--images", folder, "--stratify-by", "source", "--threads", 1]
    assert command("run", *data, *options, "--budget", "50%", "--output", folder / "run") == 0
    assert command("report", folder / "run") == 0
    shutil.copytree(folder / "run", folder / "other")
    scalselect.score(folder / "other", energy=0.6)
    scalselect.select(folder / "other", budget="50%")
    scalselect.report(folder / "run", folder / "other", output=folder / "run" / "comparison.html")


def small_records(run):
    """Return the records of the small run, in pool order."""
    return [each for name in ("shapes", "colours") for each in json.loads((run.parent / f"{name}.json").read_text())]


def build_large(folder):
    """Write a pool of 600,000 records, photos of the shown ones, a run of made-up vectors, and the page, timed."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_large_pool(folder)
    large_run(folder / "run", LARGE, hidden=16, data=data)
    shown = shown_rows(pq.read_table(folder / "run" / "scores.parquet"))
    write_photos(folder / "photos", sorted(row for rows in shown.values() for row in rows.tolist()))
    explain(folder / "run", across=24)
    began, used = time.monotonic(), time.process_time()
    scalselect.report(folder / "run")
    cost = {"wall": time.monotonic() - began, "cpu": time.process_time() - used}
    (folder / "run" / "seconds.json").write_text(json.dumps(cost))


def write_large_pool(folder):
    """Write the records; of their pictures, `photos/ROW.jpg`, there is none yet."""
    data = folder / "pool.jsonl"
    answer = "A street with two cars and a tree, seen from above, and a person who waits at the corner. " * 2
    with data.open("w") as lines:
        for row in range(LARGE):
            asked = f"<image>\\nWhat is to be seen in picture {row}, and where does it stand? Answer in one sentence."
            turns = f'[{{"from":"human","value":"{asked}"}},{{"from":"gpt","value":"{answer}"}}]'
            lines.write(f'{{"id":"r{row}","image":"photos/{row}.jpg","conversations":{turns}}}\n')
    return data


def write_photos(folder, rows):
    """Write pictures of 640 x 480 with edges, slopes and grain, as heavy as photos."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    grain = Image.effect_noise((1280, 960), 60).convert("RGB")
    for row in rows:
        small = rng.integers(0, 256, size=(12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(12):
            x, y, width, height = (int(each) for each in rng.integers(20, 320, size=4))
            draw.ellipse([x, y, x + width, y + height], fill=tuple(int(each) for each in rng.integers(0, 256, size=3)))
        x, y = (int(each) for each in rng.integers(0, 480, size=2))
        Image.blend(picture, grain.crop((x, y, x + 640, y + 480)), 0.2).save(folder / f"{row}.jpg", quality=85)


def explain(run, across):
    """Write down attention of the rows that are shown: a spot on a grid, of which nine tenths are kept."""
    folder = RunFolder(run)
    rows = explained_rows(pq.read_table(folder.scores))
    edges = np.linspace(0, 1, across + 1, dtype=np.float32)
    left, top = (grid.ravel() for grid in np.meshgrid(edges[:-1], edges[:-1]))
    boxes = np.stack([left, top, left + edges[1], top + edges[1]], axis=1).astype(np.float32)
    found = {}
    for row in rows.tolist():
        x, y = np.random.default_rng(row).random(2)
        mass = np.exp(-(((left - x) ** 2 + (top - y) ** 2) * 20))
        share = (mass / mass.sum()).astype(np.float32)
        order = np.argsort(-share, kind="stable")
        kept = np.zeros(share.size, dtype=np.bool_)
        kept[order[: np.searchsorted(np.cumsum(share[order]), 0.9) + 1]] = True
        image = np.zeros(share.size, dtype=np.int32)
        found[row] = Explanation(row=row, attention=share, kept=kept, image=image, boxes=boxes)
    explanations = Explanations(rows=found, missing={}, boxes_unknown=None)
    inputs = {"store": folder.store.digest(shards_of(folder.require()))}
    write_explanations(folder.explanations, explanations, inputs)

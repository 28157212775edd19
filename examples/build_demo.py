"""Build a small pool of real pictures and questions, and a tiny checkpoint to run the method with.

``python examples/build_demo.py FOLDER [--rows 3200]`` needs the package ``easy-vqa`` (64 x 64 pictures of shapes, with
questions) and no network. FOLDER then holds ``pool.json`` (LLaVA format), ``images/`` and ``checkpoint/``. The weights
are random: the demo shows how a run goes and what it writes, not which samples are worth training on. A few rows are
bad on purpose, so that the account of skipped rows has something to tell.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import easy_vqa
from transformers.utils import logging

from tiny_llava import build_llava

if TYPE_CHECKING:
    from collections.abc import Iterator

Record = dict[str, Any]
Question = tuple[str, str]  # question, answer

FEWEST_ROWS = 100  # fewer, and the bad rows alone would exceed the share of skipped rows a run tolerates
MOST_ROWS = 8000  # what the pictures of easy-vqa give
MULTI_TURN_EVERY = 8  # pictures
BROKEN_IMAGE = "images/broken.png"


def main() -> None:
    """Read the command line and build what is missing."""
    parser = argparse.ArgumentParser(description="Build the demo: a pool of real pictures and a tiny random model.")
    parser.add_argument("folder", type=Path, help="where the demo goes")
    parser.add_argument("--rows", type=int, default=3200, help="rows of the pool (default: %(default)s)")
    arguments = parser.parse_args()
    if not FEWEST_ROWS <= arguments.rows <= MOST_ROWS:
        parser.error(f"--rows must lie between {FEWEST_ROWS} and {MOST_ROWS}: {arguments.rows}")
    build_demo(arguments.folder, arguments.rows)


def build_demo(folder: Path, rows: int = 3200) -> None:
    """Write the demo into `folder`, unless it lies there already.

    Parameters
    ----------
    folder
        Created where missing. `pool.json` is written last: where it is, everything else is.
    rows
        Rows of the pool, the bad ones included, between 100 and 8000.
    """
    pool = make_pool(rows)
    content = (json.dumps(pool, indent=1) + "\n").encode()
    pool_file, checkpoint = folder / "pool.json", folder / "checkpoint"
    complete = all(path.exists() for path in (pool_file, checkpoint / "model.safetensors", folder / BROKEN_IMAGE))
    if complete and pool_file.read_bytes() == content:
        print(f"The demo is complete already, nothing was done: {folder}")
        return
    pool_file.unlink(missing_ok=True)
    copied = copy_images(pool, folder)
    logging.disable_progress_bar()
    texts = [turn["value"] for record in pool for turn in record["conversations"]]
    build_llava(checkpoint, texts=[*texts, "USER: ASSISTANT:"], image_size=112, patch_size=14)
    unfinished = folder / "pool.json.part"
    unfinished.write_bytes(content)
    unfinished.replace(pool_file)
    print(f"Pool: {pool_file} ({len(pool)} rows about {copied} pictures of easy-vqa)")
    print("  bad on purpose: a missing image, a broken image, a marker too many; one row has no image at all")
    print(f"Checkpoint: {checkpoint} (LLaVA-1.5 layout, 64 vision tokens an image)")
    print("  its weights are random: it shows how a run goes, not which samples are worth training on")


def make_pool(rows: int) -> list[Record]:
    """Return `rows` records in LLaVA format: mostly one question an image, some with two or three, four odd ones."""
    odd = _odd_records()
    pool = list(islice(_good_records(), rows - len(odd)))
    for number, record in enumerate(odd, start=1):
        pool.insert(number * rows // (len(odd) + 1), record)
    return pool


def copy_images(pool: list[Record], folder: Path) -> int:
    """Copy the images that records of `pool` name into `folder`, and cut one in half; return how many are whole."""
    sources = easy_vqa.get_train_image_paths()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    named = {record["image"] for record in pool if "image" in record}
    whole = {f"images/{number}.png": Path(source) for number, source in sources.items()}
    for name in sorted(named & whole.keys()):
        (folder / name).write_bytes(whole[name].read_bytes())
    complete = whole["images/0.png"].read_bytes()
    (folder / BROKEN_IMAGE).write_bytes(complete[: len(complete) // 2])
    return len(named & whole.keys())


def _good_records() -> Iterator[Record]:
    """Yield two records for each picture, in the order of the pictures' numbers."""
    questions: dict[int, list[Question]] = {}
    for question, answer, image in zip(*easy_vqa.get_train_questions(), strict=True):
        questions.setdefault(image, []).append((question, answer))
    for image, asked in sorted(questions.items()):
        yield _record(f"easy-vqa-{image}-a", f"images/{image}.png", asked[:1])
        turns = asked[1 : 3 + image % 2] if image % MULTI_TURN_EVERY < 2 else asked[-1:]  # noqa: PLR2004  two in eight
        yield _record(f"easy-vqa-{image}-b", f"images/{image}.png", turns)


def _record(name: str, image: str | None, asked: list[Question], marker: str = "<image>\n") -> Record:
    conversations = []
    for number, (question, answer) in enumerate(asked):
        conversations.append({"from": "human", "value": question if number else marker + question})
        conversations.append({"from": "gpt", "value": answer})
    return {"id": name} | ({"image": image} if image else {}) | {"conversations": conversations}


def _odd_records() -> list[Record]:
    """Return the rows that show what becomes of rows without a score."""
    asked = [("what color is the shape?", "red")]
    return [
        _record("odd-missing-image", "images/missing.png", asked),
        _record("odd-text-only", None, [("how many sides does a triangle have?", "three")], marker=""),
        _record("odd-too-many-markers", "images/0.png", asked, marker="<image>\n<image>\n"),
        _record("odd-broken-image", BROKEN_IMAGE, asked),
    ]


if __name__ == "__main__":
    main()

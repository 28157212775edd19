"""`--like` in a run: told on stderr, kept in run.json, and seen by the vectors."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from scalselect.representation_store import RepresentationStore
from small_pools import command, record


def pool(tmp_path):
    """Write eight records with a transparent picture each that LLaMA-Factory would shrink; return the data file."""
    random = np.random.default_rng(0)
    for i in range(8):
        pixels = random.integers(0, 256, (90, 120, 4), dtype=np.uint8)
        Image.fromarray(pixels, "RGBA").save(tmp_path / f"{i}.png")
    path = tmp_path / "pool.json"
    path.write_text(json.dumps([record(i, f"{i}.png") for i in range(8)]), encoding="utf-8")
    return path


def represented(tmp_path, checkpoints, name, *options, family="llava"):
    folder = tmp_path / name
    words = ["represent", tmp_path / "pool.json", "--model", checkpoints(family), "--output", folder, *options]
    assert command(*words) == 0
    run = json.loads((folder / "run.json").read_bytes())
    return run, RepresentationStore(folder / "representations").representations(0)[1]


def test_a_trainer_is_told_kept_and_seen(tmp_path, checkpoints, capsys):
    pool(tmp_path)
    _, plain = represented(tmp_path, checkpoints, "plain")
    capsys.readouterr()
    options = ["--like", "llamafactory", "--image-max-pixels", "5000", "--chat-template", "vicuna"]
    run, like = represented(tmp_path, checkpoints, "like", *options)
    told = capsys.readouterr().err
    assert "as LLaMA-Factory 0.9.5 shows them (--like llamafactory):" in told
    assert "  --image-max-pixels 5000 (given; LLaMA-Factory: 589824)\n" in told
    assert "  --alpha drop\n" in told
    kept = {name: run["represent"][name] for name in ("like", "alpha", "image_resize", "image_max_pixels", "exif")}
    assert kept == {
        "like": "llamafactory",
        "alpha": "drop",
        "image_resize": "before",
        "image_max_pixels": 5000,
        "exif": "ignore",
    }
    assert like.shape == plain.shape
    assert np.abs(like - plain).max() > 1e-3  # the processor of LLaVA knows no limit: they acted before it


def test_transparency_is_seen(tmp_path, checkpoints):
    pool(tmp_path)
    _, drop = represented(tmp_path, checkpoints, "drop")
    _, white = represented(tmp_path, checkpoints, "white", "--alpha", "white")
    assert np.abs(drop - white).max() > 1e-3


def test_another_trainer_is_another_run(tmp_path, checkpoints, capsys):
    pool(tmp_path)
    represented(tmp_path, checkpoints, "run", "--like", "ms-swift")
    words = ["represent", tmp_path / "pool.json", "--model", checkpoints("llava"), "--output", tmp_path / "run"]
    assert command(*words) == 2
    assert "like" in capsys.readouterr().err


def test_limits_of_the_processor_are_still_refused_where_it_has_none(tmp_path, checkpoints, capsys):
    pool(tmp_path)
    words = ["represent", tmp_path / "pool.json", "--model", checkpoints("llava"), "--output", tmp_path / "run"]
    assert command(*words, "--image-max-pixels", "5000") == 2
    assert "--image-resize before" in capsys.readouterr().err


def test_limits_before_a_processor_that_has_some_are_not_its_own(tmp_path, checkpoints):
    pool(tmp_path)
    limits = ("--image-max-pixels", "5000")
    _, own = represented(tmp_path, checkpoints, "own", *limits, family="qwen2_vl")
    _, before = represented(tmp_path, checkpoints, "before", *limits, "--image-resize", "before", family="qwen2_vl")
    assert np.abs(own - before).max() > 1e-4

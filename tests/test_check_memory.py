"""A picture whose decoder runs out of memory: `check` tells what a run does with its row, and what helps."""

from __future__ import annotations

import json

import pytest
from PIL import Image, PngImagePlugin

import scalselect
from small_pools import command, record, scores_of

HUGE = (31, 29)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Write four rows; the picture of the third does not fit into the memory."""
    for number, size in enumerate([(40, 30), (40, 30), HUGE, (40, 30)]):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"{number}.png")
    path = tmp_path / "pool.json"
    path.write_text(json.dumps([record(n, f"{n}.png") for n in range(4)]), encoding="utf-8")
    original = PngImagePlugin.PngImageFile.load

    def load(picture):
        if picture.size == HUGE:
            raise MemoryError
        return original(picture)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    return path


@pytest.mark.parametrize("workers", ["auto", "0"])
def test_check_tells_what_a_run_does(pool, checkpoints, tmp_path, capsys, workers):
    model = checkpoints("llava")
    words = ["--model", model, "--budget", 2, "--max-skipped", "100%", "--dataloader-workers", workers, "--output"]
    assert command("run", pool, *words, tmp_path / "failed") == 1
    assert "memory ran out while row 2 was made ready" in capsys.readouterr().err
    assert command("run", pool, *words, tmp_path / "skipping", "--skip-oom") == 0
    assert scores_of(tmp_path / "skipping")["reason"] == [None, None, "out_of_memory", None]
    for options in ({}, {"model": model}, {"like": "ms-swift"}):
        found = scalselect.check(pool, dataloader_workers=workers if workers == "auto" else 0, **options)
        (problem,) = found.examples
        assert (problem.row, problem.kind, problem.effect) == (2, "out_of_memory", "stops the run")
        for option in ("--image-max-pixels", "--max-length", "--dtype", "--skip-oom"):
            assert option in problem.detail
    assert command("check", pool, "--dataloader-workers", workers) == 1
    shown = capsys.readouterr().out
    assert "stops the run" in shown
    assert "--skip-oom" in shown

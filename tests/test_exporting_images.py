"""Exports of images that lie in the data themselves: files beside the records, or bytes in the table."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

import scalselect
from scalselect.errors import OptionError
from scored_runs import clustered_vectors
from tars import png, samples, write_tar

ROWS = 30


def scored(folder):
    """Return a run of vectors that any records can be given for."""
    np.save(folder / "X.npy", clustered_vectors(ROWS))
    scalselect.score(representations=folder / "X.npy", output=folder / "run")
    return folder / "run"


def red(image):
    return image.getpixel((0, 0))[0]


def test_images_in_the_data_become_files_or_stay_in_the_file(tmp_path):
    tar = write_tar(tmp_path / "pool.tar", samples(ROWS))
    run = scored(tmp_path)
    rows = scalselect.select(run, budget=10, dataset=tar).rows.tolist()
    exported = scalselect.export(run, to="messages", dataset=tar)
    lines = [json.loads(line) for line in exported.files[0].read_text().splitlines()]
    shown = [[row, row + 100] if row % 3 == 2 else [row] for row in rows]
    assert exported.images == sum(map(len, shown))
    for values, line in zip(shown, lines, strict=True):
        assert [Path(path).read_bytes() for path in line["images"]] == [png(value) for value in values]
        assert all(path.endswith(".png") for path in line["images"])
    left = run / "exported" / "messages-images" / "old.png"
    left.write_bytes(b"")
    scalselect.export(run, to="messages", dataset=tar)
    assert not left.exists()
    (path,) = scalselect.export(run, to="trl", dataset=tar).files
    found = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert [[red(image) for image in row["images"]] for row in found] == shown
    with pytest.raises(OptionError, match="only JSON records can be rewritten, and those of pool are kept in tar"):
        scalselect.export(run, to="source", ids_as_strings=True, dataset=tar)

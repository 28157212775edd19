"""A run whose scoring has four parts, for tests of who does them: one part is empty, some instructions are missing."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import numpy as np

from scalselect import claims, score_parts
from scalselect.config import ScoreConfig
from scalselect.run_folder import RunFolder
from scalselect.score_parts import ScoreParts
from scalselect.segments import shards_of
from scored_runs import SHARD_SIZE, clustered_vectors, scored_run

STEPS = ("representations", "instruction_representations", "projection")
PARTS = 4
ROWS = 7 * SHARD_SIZE - 3  # seven shards in parts of two; the last part is a single one
EMPTY = range(2 * SHARD_SIZE, 4 * SHARD_SIZE)  # rows of the second part, of which none is scored
NO_INSTRUCTION = range(5, 9)


def make_parts_small(patched):
    """Let a part be two shards, and nobody wait long."""
    patched.setattr(score_parts, "_SHARDS_A_PART", 2)
    patched.setattr(claims, "_POLL_SECONDS", 0.02)


def run_of_parts(folder):
    """Return the folder of a run that nobody has scored."""
    instruction = clustered_vectors(ROWS, 1, hidden=12)
    instruction[NO_INSTRUCTION] = np.nan
    vectors = clustered_vectors(ROWS, 0, hidden=12)
    return RunFolder(scored_run(folder, vectors, instruction=instruction, unusable=set(EMPTY), score=False))


def copy_of(run, place):
    return RunFolder(shutil.copytree(run.path, place / "run"))


def parts_of(folder, config=None, **inputs):
    config = config or ScoreConfig()
    return ScoreParts(folder, shards_of(folder.require()), config, {"score": asdict(config), **inputs})

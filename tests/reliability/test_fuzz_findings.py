"""Inputs that fuzzing once found to break a parser, run through the same targets; and the targets on their seeds.

Two of the Parquet files ended the whole process, inside Arrow, before the footer was looked at with care.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz_seeds import seeds
from fuzz_targets import TARGETS

FOUND = sorted((Path(__file__).parent / "fuzz_findings").glob("*.bin"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_inputs_that_were_found_do_no_harm(path):
    target = path.stem.partition("-")[0]
    code = "import sys, pathlib, fuzz_targets as f; f.TARGETS[sys.argv[1]](pathlib.Path(sys.argv[2]).read_bytes())"
    if target == "parquet":  # in a process of its own: a relapse would end this one
        folders = [str(Path(__file__).parents[2] / name) for name in ("benchmarks", "src")]
        words = [sys.executable, "-c", f"import sys; sys.path[:0] = {folders}; {code}", target, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    else:
        TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_keep_what_the_targets_hold(target):
    for content in seeds(target):
        TARGETS[target](content)
        TARGETS[target](content[: len(content) // 2])

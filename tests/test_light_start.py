"""Help, scoring and selecting start without torch, transformers and ray, in processes of their own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

import numpy as np
import pytest

from scored_runs import scored_run

HEAVY = ("ray", "torch", "torchvision", "transformers")
ROWS = 10

CODE = """\
import sys
from scalselect.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as exit:
    code = exit.code
print(code, *(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr)
"""


def start(*words, watched=HEAVY):
    """Run the command line in a new process; return its exit code, which watched modules it loaded, and stdout."""
    command = [sys.executable, "-c", CODE, ",".join(watched), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    code, *loaded = ended.stderr.splitlines()[-1].split()  # what the command says stands before the answer
    return int(code), loaded, ended.stdout


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    vectors = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float32)
    return scored_run(tmp_path_factory.mktemp("light"), vectors, score=False)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["compare", "--help"],
        ["compose-llava", "--help"],
        ["export", "--help"],
        ["report", "--help"],
        ["--version"],
    ],
)
def test_help_and_version_load_no_numerical_library_at_all(words):
    code, loaded, shown = start(*words, watched=(*HEAVY, "numpy", "scipy", "pyarrow"))
    assert code == 0
    assert loaded == []
    assert "scalselect" in shown


def test_score_then_select_then_compare_load_no_torch(run_dir):
    code, loaded, shown = start("score", run_dir, watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert f"{ROWS} rows" in shown
    assert (run_dir / "scores.parquet").is_file()
    code, loaded, shown = start("select", run_dir, "--budget", "30%", watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert "3 rows (30% asked, 10 eligible)" in shown
    assert len(json.loads((run_dir / "selected.json").read_bytes())) == 3
    words = ("--to", "source", "--ids-as-strings")
    code, loaded, shown = start("export", run_dir, *words, watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert "exported   3 records" in shown
    code, loaded, shown = start("compare", run_dir, run_dir, watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert "3 in A, 3 in B, 3 in both" in shown
    code, loaded, shown = start("report", run_dir, watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert (run_dir / "report.html").stat().st_size > 10_000


def test_check_without_a_model_loads_no_torch(tmp_path):
    data = tmp_path / "pool.json"
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    data.write_text(json.dumps([{"conversations": turns}]), encoding="utf-8")
    code, loaded, shown = start("check", data, "--like", "llamafactory", watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert "1 row, 1 of them text-only" in shown


def test_the_check_itself_notices_torch(tmp_path):
    """A command that needs the model loads torch, and the check must say so."""
    data = tmp_path / "pool.json"
    data.write_text('[{"conversations": []}]', encoding="utf-8")
    code, loaded, _ = start("represent", data, "--model", tmp_path, "--output", tmp_path / "run")
    assert code == 2  # there is no model
    assert loaded == ["torch", "torchvision", "transformers"]


def test_help_takes_less_than_a_second():
    """Of processor time: what else the machine does is not counted."""
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "scalselect", "--help"], capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0.01 < statistics.median(seconds) < 1.0, seconds

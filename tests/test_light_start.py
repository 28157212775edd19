"""Help, scoring and selecting start without torch, transformers and ray, in processes of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

from scalselect.dataset.pool import open_pool
from scalselect.records import RowIdentity, RowRecord
from scalselect.run_folder import RunFolder

HEAVY = ("ray", "torch", "torchvision", "transformers")
ROWS, SHARD_SIZE = 10, 4

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


def represented_run(folder):
    """Write a data file and a run folder whose shards are represented by random vectors, as a model would."""
    records = [
        {"id": row, "image": f"{row}.png", "conversations": [{"from": "human", "value": "?"}]} for row in range(ROWS)
    ]
    data = folder / "pool.json"
    data.write_text(json.dumps(records), encoding="utf-8")
    pool = open_pool(data)
    run = RunFolder(folder / "run")
    represent = {
        "rows": ROWS,
        "shard_size": SHARD_SIZE,
        "threads": 1,
        "limit": None,
        "data_format": pool.format,
        **{f"data_{name}": value for name, value in pool.fingerprint().items()},
    }
    run.create({"represent": represent, "score": None, "select": None, "data": {"path": str(data), "source": "pool"}})
    vectors = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float32)
    facts = {"seconds": {"model": 0.5}, "device": "cpu", "split_batches": 0, "reuse": {}, "versions": {}}
    for shard, begin in enumerate(range(0, ROWS, SHARD_SIZE)):
        span = range(begin, min(begin + SHARD_SIZE, ROWS))
        rows = [
            RowRecord(identity=RowIdentity(row, "pool", str(row), "number"), status="scored", tokens=9) for row in span
        ]
        run.store.publish(shard, span, rows, vectors[span.start : span.stop], facts)
    return run.path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return represented_run(tmp_path_factory.mktemp("light"))


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["compare", "--help"], ["compose-llava", "--help"], ["--version"]]
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
    code, loaded, shown = start("compare", run_dir, run_dir, watched=(*HEAVY, "numpy"))
    assert (code, loaded) == (0, ["numpy"])
    assert "3 in A, 3 in B, 3 in both" in shown


def test_the_check_itself_notices_torch(tmp_path):
    """A command that needs the model loads torch, and the check must say so."""
    data = tmp_path / "pool.json"
    data.write_text('[{"conversations": []}]', encoding="utf-8")
    code, loaded, _ = start("represent", data, "--model", tmp_path, "--output", tmp_path / "run")
    assert code == 2  # there is no model
    assert loaded == ["torch", "torchvision", "transformers"]


def test_help_takes_less_than_a_second():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "scalselect", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 1.0, seconds

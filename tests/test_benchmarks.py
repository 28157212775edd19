"""Every benchmark runs to its end on a tiny shape and prints its table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_first_layer_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "first_layer.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "command   python benchmarks/first_layer.py --quick\n" in done.stdout
    for quantity in ("seconds a sample", "seconds to load", "MiB of peak memory to load", "MiB of tensors read"):
        cell = r"\s+\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)"
        assert re.search(f"^{quantity}{cell}{cell}{cell}$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^kept sets: \d equal, \d flipped, 0 different$", done.stdout, re.MULTILINE)

    counts = {
        name: int(count.replace(",", "")) for name, count in re.findall(r"bytes of (.+?)\s+([\d,]+)", done.stdout)
    }
    unneeded = [int(count) for count in re.findall(r"materialised, not needed: \S+ (\d+)", done.stdout)]
    assert counts["parameters materialised"] - sum(unneeded) == counts["parameters needed"]
    assert counts["tensors read from it"] == counts["parameters materialised"]
    assert counts["parameters needed"] < counts["tensors of the whole checkpoint"]


@pytest.mark.slow
def test_dtypes_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "dtypes.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command      python benchmarks/dtypes.py --quick\n")
    flipped = re.search(r"^rows whose kept set differs +(\d+\.\d)% +(\d+\.\d)%$", done.stdout, re.MULTILINE)
    assert float(flipped[1]) > float(flipped[2])  # bfloat16 keeps fewer digits than float16
    assert len(re.findall(r"^chosen 16% in common", done.stdout, re.MULTILINE)) == 1


@pytest.mark.slow
def test_pool_throughput_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "pool_throughput.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    number = r"\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)"
    found = re.findall(rf"^  (\S.*?) +{number} +{number} +\d+\.\d% +(\d+)% +\S+$", done.stdout, re.MULTILINE)
    assert len(found) == 15
    # Every picture once instead of five times, in shards of a fifth only where work goes in the order of images.
    tower = [int(share) for _, share in found]
    assert tower[:5] == [100, 100, 20, 20, 20]
    assert tower[5:7] == [100, 100]
    assert 20 < tower[7] <= 100
    assert tower[8:10] == [20, 20]

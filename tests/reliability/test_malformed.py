"""A sample of the campaign of malformed data sets; `benchmarks/malformed_campaign.py` runs 1,000 and more."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from malformed_campaign import cases, kinds
from malformed_case import checked_case

ROOT = Path(__file__).parents[2]
SEED = 7
SAMPLE = cases(150)  # one data set of each kind, three of damaged files


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: f"{case.number} {case.kind}")
def test_malformed_data_set_is_counted_or_refused(tmp_path, pictures, case):
    data, rows = case.build(tmp_path, random.Random(f"{SEED} {case.number} {case.kind}"), pictures)
    code, failure = checked_case(data, rows)
    assert (code in {0, 1, 2}, failure) == (True, "")


def test_sample_holds_every_kind():
    assert {case.kind for case in SAMPLE} == set(kinds())
    assert sum(case.kind.startswith("huge") for case in cases(1000)) == 8


@pytest.mark.slow
def test_malformed_data_sets_end_as_promised_when_run():
    script = ROOT / "benchmarks" / "malformed_campaign.py"
    words = [sys.executable, script, "--cases", "150", "--seed", str(SEED)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert ", 0 failed, " in done.stdout

"""SIGKILL at random moments of real commands, by the machinery of the crash campaign; see its tables."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "crash_campaign.py"
SEED = "SCALSELECT_KILL_SEED"  # a variable that repeats the kills of an earlier run


@pytest.mark.slow
def test_ten_kills_at_random_moments(capsys):
    seed = os.environ.get(SEED) or str(random.SystemRandom().randrange(10**6))
    with capsys.disabled():
        sys.stdout.write(f"\nkills at random moments: {SEED}={seed}\n")
    words = [sys.executable, CAMPAIGN, "--kills", "10", "--seed", seed]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, folders = re.search(r"^kills +(\d+) in (\d+) folders", done.stdout, re.MULTILINE).groups()
    assert int(kills) == 10
    assert f"{folders} of {folders} folders equal those of undisturbed runs byte for byte" in done.stdout

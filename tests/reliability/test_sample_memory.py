"""Memory that really runs out in the model, by the system's limit: a batch is halved, a sample fails or is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scalselect.engines.processes import can_fork


@pytest.mark.slow
@pytest.mark.skipif(not can_fork, reason="limits and forks as Linux has them")
def test_a_batch_is_halved_and_a_sample_fails_its_shard_or_is_skipped():
    """In a process that has done nothing before: other tests may leave it so much memory that no limit is met."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    file = Path(__file__).with_name("sample_memory_run.py")
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "slow", file]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

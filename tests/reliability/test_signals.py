"""Real signals to a real process: it ends in seconds, says how to go on, and the same command does."""

import json
import signal
import subprocess
import sys
import time

import pytest

from small_pools import command, promised_files, write_pool


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_real_signals(tmp_path, pictures, checkpoints, sent, code, workers):
    data = write_pool(tmp_path / "data", pictures, rows=3000)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "10%", "--shard-size", "100", "--threads", "1"]
    words += ["--dataloader-workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-m", "scalselect", *map(str, words), "--output", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "representations" / "shard-0000001.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(sent)
    _, message = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in message
    if sent != signal.SIGKILL:
        assert "The same command continues" in message
    assert command(*words, "--output", tmp_path / "run") == 0
    assert command(*words, "--output", tmp_path / "whole") == 0
    assert promised_files(tmp_path / "run") == promised_files(tmp_path / "whole")
    assert json.loads((tmp_path / "run" / "selection.json").read_text())["rows"]["selected"] == 300

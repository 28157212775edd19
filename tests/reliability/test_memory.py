"""Too little memory for scoring and choosing, by the system's own limit: told, nothing harmed, and it continues."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from filling_disks import KEPT, assert_as_undisturbed, assert_whole, contents

from scalselect.storage import TEMPORARY_MARK
from small_pools import command

ROWS, HIDDEN = 6000, 512
MIB = 2**20
STAGES = {
    "import": ["score", "--representations", "X.npy", "--output", "run"],
    "score": ["score", "run", "--energy", "0.5"],
    "select": ["select", "run", "--budget", "20%"],
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    np.save(folder / "X.npy", np.random.default_rng(0).normal(size=(ROWS, HIDDEN)).astype(np.float32))
    with contextlib.chdir(folder):
        for stage in ("import", "select"):  # whatever is imported late is there by then
            assert command(*STAGES[stage]) == 0
        (folder / "run").rename("scored")
        assert command("score", "--representations", "X.npy", "--output", "run") == 0
        (folder / "run").rename("before")
        shutil.rmtree("scored")
    return folder


def with_memory(more, words, told):
    """Run a command in a process that may have some bytes more than it has; return its code and what it said."""
    child = os.fork()
    if child == 0:
        code = 99
        with contextlib.suppress(BaseException), told.open("w") as stream:
            signal.alarm(100)
            now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
            resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
            with contextlib.redirect_stderr(stream):
                code = command(*words)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.read_text()


@pytest.mark.parametrize("stage", ["import", "score", pytest.param("select", marks=pytest.mark.slow)])
@pytest.mark.parametrize("more", [4, *(pytest.param(mib, marks=pytest.mark.slow) for mib in (3, 6, 8, 12, 16, 24))])
def test_too_little_memory(scored, tmp_path, monkeypatch, stage, more):
    monkeypatch.chdir(tmp_path)
    shutil.copy(scored / "X.npy", tmp_path)
    for name in ("run", "whole"):
        if stage != "import":
            shutil.copytree(scored / "before", name)
    words = STAGES[stage]
    code, said = with_memory(more * MIB, words, tmp_path / "told")
    assert code in {0, 1}, said
    assert code == 1 or more > 4 or stage != "import"  # the others find room that was used before
    assert "Traceback" not in said
    if code == 1:
        assert "memory ran out" in said
        assert "ulimit -v" in said
        assert KEPT in said
    for name in contents(tmp_path / "run"):
        assert TEMPORARY_MARK not in name
        assert_whole(tmp_path / "run" / name)
    assert command(*words) == 0
    (tmp_path / "run").rename("done")
    (tmp_path / "whole").rename("run") if stage != "import" else None
    assert command(*words) == 0
    assert_as_undisturbed(tmp_path / "done", tmp_path / "run")

"""Equal bytes whatever surrounds the process: hash seed, locale, time zone, umask, places and how they are spelled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from small_pools import command, promised_files, write_pool

OPTIONS = ["--budget", "50%", "--shard-size", "5", "--threads", "1", "--max-skipped", "20%"]
ODD = {
    "PYTHONHASHSEED": "4711",
    "LC_ALL": "C",
    "TZ": "Asia/Kolkata",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "COLUMNS": "40",
}


@pytest.fixture
def pool(tmp_path, pictures):
    """Return a folder with pool.json of 12 rows, some texts and a name of a picture not in ASCII."""
    path = write_pool(tmp_path / "data", pictures, rows=12)
    records = json.loads(path.read_bytes())
    (tmp_path / "data" / "Bäume 木.png").write_bytes(pictures[0].read_bytes())
    for row in (2, 7):
        records[row]["image"] = "Bäume 木.png"
        records[row]["conversations"][0]["value"] += " Größe? 多大"
    records[5]["image"] = "fehlt ä.png"
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return tmp_path / "data"


def started(words, cwd, umask=0o022, **environment):
    """Run a process of its own, and return its exit code and what it wrote."""
    return subprocess.run(
        [sys.executable, "-m", "scalselect", *map(str, words)],
        cwd=cwd,
        umask=umask,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


def test_a_process_in_odd_surroundings_writes_the_same_bytes(tmp_path, pool, checkpoints):
    """All at once: another hash seed, locale, zone, umask, working folder, spelling of paths and place of the run."""
    model = checkpoints("llava")
    assert command("run", pool / "pool.json", "--model", model, *OPTIONS, "--output", tmp_path / "run") == 0
    words = ["run", "./pool.json", "--model", os.path.relpath(model, pool), *OPTIONS]
    done = started([*words, "--output", "../deep/down/../run ä/"], pool, 0o077, **ODD)
    assert done.returncode == 0, done.stderr
    there = tmp_path / "deep" / "run ä"
    assert promised_files(there) == promised_files(tmp_path / "run")
    if os.name == "posix":
        assert (there / "scores.parquet").stat().st_mode & 0o077 == 0  # the umask was in force


def test_a_locale_too_narrow_for_a_name_is_refused(tmp_path, pool):
    """Read as missing, the rows that are left would depend on the locale."""
    narrow = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "scalselect", "check", pool / "pool.json"]
    done = subprocess.run(words, env=narrow, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "talks to in ascii" in done.stderr
    assert "PYTHONUTF8=1" in done.stderr
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    assert re.findall(r"image_missing +(\d+)", told) == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_one_variable_after_the_other(tmp_path, pool, checkpoints, name):
    model = checkpoints("llava")
    assert command("run", pool / "pool.json", "--model", model, *OPTIONS, "--output", tmp_path / "run") == 0
    words = ["run", pool / "pool.json", "--model", model, *OPTIONS, "--output", tmp_path / "other"]
    done = started(words, tmp_path, **{name: ODD[name]})
    assert done.returncode == 0, done.stderr
    assert promised_files(tmp_path / "other") == promised_files(tmp_path / "run")


@pytest.mark.slow
def test_two_processes_share_one_folder(tmp_path, pool, checkpoints):
    """Both begin at once on the same folder; both succeed, and what lies there is what one alone makes."""
    words = ["run", pool / "pool.json", "--model", checkpoints("llava"), *OPTIONS, "--shard-size", "2"]
    assert command(*words, "--output", tmp_path / "alone") == 0
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "scalselect", *map(str, words), "--output", str(tmp_path / "shared")],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
        for seed in (1, 2)
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert promised_files(tmp_path / "shared") == promised_files(tmp_path / "alone")

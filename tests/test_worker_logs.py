"""Logs of workers: what a worker tells and on what it ends lies in the run folder; no log ends a worker."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from scalselect import worker_logs
from scalselect.leftovers import remove_leftovers
from scalselect.remote_path import path_of
from scalselect.run_folder import RunFolder
from scalselect.shard_report import ShardReport
from scalselect.worker_logs import log_shard, worker_log

OURS = logging.getLogger("scalselect.engines.supervision")


def only_log(folder):
    found = list((folder / "logs").iterdir())
    assert len(found) == 1
    return found[0]


def open_files():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def words(folder):
    return only_log(folder).read_bytes().decode()


def test_what_is_logged_and_warned_of_is_kept_with_times(tmp_path):
    with worker_log(tmp_path / "logs", 3, redirect_descriptors=False):
        OURS.info("worker 2 is replaced")
        OURS.debug("not worth keeping")
        logging.getLogger("somelibrary").info("nor this")
        logging.getLogger("somelibrary").warning("slow image processor")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("deprecated\nsince \x1b[1m long", DeprecationWarning, stacklevel=1)
    assert re.fullmatch(rf"worker-003-[\w.-]+-{os.getpid()}\.log", only_log(tmp_path).name)
    lines = words(tmp_path).splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ (info|warning) ", line) for line in lines)
    told = [line.split(" ", 1)[1] for line in lines]
    assert told[0].startswith("info worker 3 begins: ")
    assert told[1:3] == ["info worker 2 is replaced", "warning slow image processor"]
    assert told[3] == "warning DeprecationWarning: deprecated"
    assert told[4].startswith("warning since \\u001b[1m long (")
    assert told[5:] == ["info worker 3 ends"]


def test_afterwards_all_is_as_it_was(tmp_path):
    before = sys.stdout, sys.stderr, warnings.showwarning, list(logging.root.handlers), OURS.getEffectiveLevel()
    descriptors = open_files() if sys.platform == "linux" else None
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=True):
        kept = sys.stdout
    kept.write("after the end")  # of a handler that holds the stream still: it is lost
    assert before == (
        sys.stdout,
        sys.stderr,
        warnings.showwarning,
        list(logging.root.handlers),
        OURS.getEffectiveLevel(),
    )
    if descriptors is not None:
        assert open_files() == descriptors
    assert "after the end" not in words(tmp_path)


@pytest.mark.parametrize("redirect", [True, False])
def test_descriptors_are_redirected_where_asked_for(tmp_path, capfd, redirect):
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=redirect):
        os.write(1, b"a library on stdout\n")
        subprocess.run([sys.executable, "-c", "import sys; print('a child', file=sys.stderr)"], check=True)
        sys.stdout.write("Python\n")
        logging.getLogger("somelibrary").warning("a warning")
    shown = "".join(capfd.readouterr())
    for told in ("a library on stdout\n", "a child\n", "Python\n"):
        assert (told in words(tmp_path)) is redirect
        assert (told in shown) is not redirect
    assert "a warning" in words(tmp_path)


def test_without_redirection_warnings_are_shown_as_before_too(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *facts: shown.append(str(facts[0])))
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=False):
        logging.getLogger("somelibrary").warning("of a library")
        warnings.showwarning("of Python", UserWarning, "file.py", 7)
    assert "of a library\n" in capfd.readouterr().err
    assert shown == ["of Python"]
    assert "warning UserWarning: of Python (file.py:7)\n" in words(tmp_path)


def test_what_ends_a_worker_is_kept_with_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), worker_log(tmp_path / "logs", 1, redirect_descriptors=False):
        1 / 0  # noqa: B018
    assert "worker 1 ends: ZeroDivisionError\n" in words(tmp_path)
    assert "1 / 0" in words(tmp_path)


CRASH = """
import ctypes, sys
from pathlib import Path
from scalselect.worker_logs import worker_log

def last_function():
    ctypes.string_at(0)

with worker_log(Path(sys.argv[1]), 5, redirect_descriptors=True):
    sys.stdout.write("last words of Python")
    last_function()
"""


def test_the_last_words_of_a_crash_are_kept(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CRASH, tmp_path / "logs"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode < 0
    assert (done.stdout, done.stderr) == ("", "")
    assert "last words of Python" in words(tmp_path)
    assert "Segmentation fault" in words(tmp_path)
    assert "last_function" in words(tmp_path)


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path, capfd):
    (tmp_path / "logs").write_text("a file")
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=True):
        sys.stdout.write("as before\n")
    out, err = capfd.readouterr()
    assert "as before" in out
    assert err.count("log of a worker cannot be written") == 1


def test_a_full_disk_ends_nothing_and_is_told_once(tmp_path, capfd, monkeypatch):
    def full(descriptor, content, write=os.write):
        if descriptor == full.target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    full.target = None
    monkeypatch.setattr(worker_logs, "os", SimpleNamespace(**{**vars(os), "write": full}))
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=True):
        full.target = sys.stdout.fileno()
        for _ in range(3):
            OURS.info("lost")
            sys.stdout.write("lost\n")
    err = capfd.readouterr().err
    assert err.count("No space left on device") == 1
    assert "it works on" in err
    assert "lost" not in words(tmp_path)


def test_a_second_worker_of_the_same_process_number_adds_to_the_log(tmp_path):
    for _ in range(2):
        with worker_log(tmp_path / "logs", 0, redirect_descriptors=False):
            pass
    assert words(tmp_path).count("begins") == 2


def test_a_shard_is_one_line(tmp_path):
    report = ShardReport(
        shard=12,
        start=12000,
        stop=13000,
        counts={"scored": 990, "skipped": 10},
        reasons={"image_missing": 10},
        seconds={"read": 0.1, "decode": 30.0, "preprocess": 9.0, "wait": 1.9, "model": 17.5, "write": 0.5},
        device="cpu",
        split_batches=0,
        reuse={},
        versions={},
        files={},
    )
    with worker_log(tmp_path / "logs", 0, redirect_descriptors=False):
        log_shard(report)
    assert (
        "info shard 12: 990 scored, 10 skipped; decode 30.0 s, model 17.5 s, preprocess 9.0 s, read 0.1 s, wait 1.9 s, "
        "write 0.5 s; 50.0 rows/s\n"
    ) in words(tmp_path)


def test_in_an_object_store_a_log_grows_while_the_worker_lives(bucket, monkeypatch):
    monkeypatch.setattr(worker_logs, "_SECONDS_UNTIL_UPLOAD", 0.05)
    monkeypatch.setattr(worker_logs, "_SECONDS_BETWEEN_UPLOADS", 0.05)
    folder = path_of(f"{bucket}/run")
    for number in range(2):
        with worker_log(folder / "logs", 0, redirect_descriptors=False):
            OURS.info("in the middle of %d", number)
            sent = worker_logs.threading.Event()
            for _ in range(200):
                if (folder / "logs").exists() and f"in the middle of {number}" in words(folder):
                    break
                sent.wait(0.05)
            assert f"in the middle of {number}" in words(folder)
            OURS.info("last words")
    told = words(folder)
    assert told.count("last words") == told.count("worker 0 ends") == 2


def test_a_store_that_cannot_be_reached_ends_nothing(bucket, capfd):
    with worker_log(path_of(f"{bucket}-that-is-not-there/run/logs"), 0, redirect_descriptors=False):
        OURS.info("works")
    assert capfd.readouterr().err.count("log of a worker cannot be written") == 1


def test_logs_are_no_obstacle_to_a_run_and_are_left_alone(tmp_path):
    folder = RunFolder(tmp_path)
    with worker_log(folder.logs, 0, redirect_descriptors=False):
        pass
    folder.check_usable()  # though run.json is not there yet
    assert remove_leftovers(tmp_path) == 0
    assert only_log(tmp_path).exists()

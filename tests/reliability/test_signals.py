"""A signal at any moment ends the command within seconds, with the conventional code and the line that continues."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filling_disks import assert_as_undisturbed

from scalselect import ending
from scalselect.storage import TEMPORARY_MARK
from small_pools import command, write_pool

ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
SECONDS = 30  # to end, where others use the same processors


@pytest.fixture
def words(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path / "data", pictures, rows=600)
    options = ["--budget", "10%", "--shard-size", "100", "--threads", "1"]
    return ["run", str(data), "--model", str(checkpoints("llava")), *options, "--output", str(tmp_path / "run")]


def started(words):
    command_line = [sys.executable, "-m", "scalselect", *words]
    return subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(autouse=True)
def nothing_ignored():
    """A shell that starts the tests in the background lets them ignore SIGINT, and a process hands that on."""
    ignored = [number for number, _ in ENDINGS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def assert_ended(process, code, *, further=False, may_be_done=None):
    """Return whether the process was faster than the signal: its work was done; `may_be_done` is there then."""
    began = time.monotonic()
    _, said = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < SECONDS
    assert "Traceback" not in said
    assert "Exception" not in said
    assert processes_of(process.pid) == []
    # While the interpreter itself ends, a signal ends the process, which to a shell is the same exit code.
    codes = {code, 128 - code}
    if "The same command continues:\n  scalselect run " not in said and may_be_done is not None:
        assert process.returncode in {0, *codes}, said
        assert may_be_done.exists(), said
        return True
    assert process.returncode in (codes if further else {code}), said
    assert "The same command continues:\n  scalselect run " in said
    return False


def processes_of(session):
    """Return the processes of a session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == session and state != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize(("sent", "code"), ENDINGS[:2])
def test_while_libraries_are_imported(words, sent, code):
    process = started(words)
    wait_for(lambda: handles(process.pid, sent), process)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(sent)
    assert_ended(process, code)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), ENDINGS)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_at_many_moments(tmp_path, words, sent, code, workers):
    """From the start to the writing of the choice; the signal goes to the whole group, as a terminal sends it."""
    words += ["--dataloader-workers", workers]
    seed = random.randrange(10**6)
    print("seed", seed)  # noqa: T201
    waits = random.Random(seed)
    run_dir = tmp_path / "run"
    reports = run_dir / "representations"
    moments = [
        lambda: True,
        run_dir.exists,
        (reports / "shard-0000000.json").exists,
        (reports / "shard-0000002.json").exists,
        (reports / "shard-0000005.json").exists,
        (run_dir / "subspace.safetensors").exists,
    ]
    for moment in moments:
        process = started(words)
        for happened in (lambda: handles(process.pid, sent), moment):  # noqa: B023
            wait_for(lambda: process.poll() is not None or happened(), process)  # noqa: B023
        time.sleep(waits.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, sent)
        if assert_ended(process, code, may_be_done=run_dir / "selection.json"):
            break
    assert command(*words) == 0
    assert not list(run_dir.rglob(f"*{TEMPORARY_MARK}*"))
    assert command(*words[:-3], tmp_path / "whole", *words[-2:]) == 0
    assert_as_undisturbed(run_dir, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_two_signals_and_more(words, workers):
    """Whoever is impatient while it cleans up gets no traceback either."""
    process = started([*words, "--dataloader-workers", workers])
    wait_for((Path(words[-1]) / "representations" / "shard-0000000.json").exists, process)
    for pause in (0, 0.01, 0.1, 1.0, 0.3):
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
    assert_ended(process, 130, further=True)


def test_a_signal_that_a_library_loses_ends_the_process_all_the_same(tmp_path):
    """As does one that comes while a library calculates for long; nothing may depend on the main thread."""
    process = losing("pass")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (143, "terminated, told\n")


def test_an_impatient_second_signal_ends_it_at_once(tmp_path):
    process = losing("print('cleaning', flush=True)", 60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    time.sleep(1.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (130, "interrupted, told\n")


def losing(at_a_signal, seconds=1.0):
    """Start a process that does not end when it is asked to, and is given some seconds for it."""
    code = f"""
import time
from scalselect import ending
ending._SECONDS = {seconds}
with ending.signals_end_the_work() as heeded:
    heeded.say = lambda word: f"{{word}}, told\\n"
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        {at_a_signal}
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending.signals_end_the_work():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_process_is_not_taken_for_its_parent():
    """What a child is sent must not end the parent."""
    with ending.signals_end_the_work() as heeded:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
        time.sleep(0.2)
        assert heeded.number is None
        assert not heeded.over.is_set()


def handles(process, number):
    """Tell whether a process has set its own handler of a signal, and is no longer about to start Python."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    both = (1 << (signal.SIGTERM - 1)) | (1 << (number - 1))  # Python itself handles SIGINT
    return int(caught.split()[1], 16) & both == both


def wait_for(happened, process):
    deadline = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)

"""Workers that are processes: begun anew, told apart by environment, their deaths told, nothing of them left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import small_work
from scalselect.engines import worker_processes
from scalselect.engines.crew import Died, Done, Raised, Ready
from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from scalselect.engines.worker_processes import LocalCrew
from scalselect.errors import MisuseError, WorkError
from small_work import Beginning

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need Linux or macOS")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers end after their task")
TESTS = str(Path(small_work.__file__).parent)
SOON = 30.0  # seconds, on a machine that has other things to do


@contextlib.contextmanager
def crew_of(workers=1, **options):
    """Yield a crew whose workers have begun, and their process numbers."""
    crew = LocalCrew(options.pop("begin", Beginning()), **options)
    try:
        for worker in range(workers):
            crew.start(worker)
        ready = []
        while len(ready) < workers:
            ready += crew.events(SOON)
        assert {type(event) for event in ready} == {Ready}
        yield crew, [event.facts for event in sorted(ready, key=lambda event: event.worker)]
    finally:
        crew.close()


def answer(crew, *task, worker=0):
    crew.give(worker, task)
    [event] = crew.events(SOON)
    assert event.worker == worker
    return event


def wait_until(condition, seconds=SOON):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def lives(process):
    """Return whether a process lives; a zombie does not, and is a fault where it is a child of this process."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children():
    return {
        int(child) for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    }


def handles():
    return {path.name for path in Path("/proc/self/fd").iterdir()} if sys.platform == "linux" else set()


def test_tasks_are_done_one_after_another():
    with crew_of() as (crew, [process]):
        assert process != os.getpid()
        for number in range(5):
            assert answer(crew, "echo", number) == Done(0, number)
        assert answer(crew, "in_main_thread").result is True


def test_large_results_come_whole():
    with crew_of() as (crew, _):
        assert np.array_equal(answer(crew, "array", 10**6).result, np.arange(10**6))


def test_nothing_happens_until_the_time_is_up():
    with crew_of() as (crew, _):
        began = time.monotonic()
        assert crew.events(0.2) == []
        assert 0.2 <= time.monotonic() - began < SOON
        assert crew.events(0) == []


def test_environments_are_those_of_the_workers(monkeypatch):
    monkeypatch.setenv("OF_ALL", "yes")
    monkeypatch.setenv("OWN", "not this")
    with crew_of(3, environments=[{"OWN": "a"}, {"OWN": "b"}]) as (crew, _):
        assert [answer(crew, "environment", "OWN", worker=worker).result for worker in range(3)] == [
            "a",
            "b",
            "not this",
        ]
        assert answer(crew, "environment", "OF_ALL", worker=1).result == "yes"
    assert os.environ["OWN"] == "not this"


def test_modules_are_looked_for_where_the_driver_does(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the current folder was taken for a module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "of_the_driver")])
    with crew_of() as (crew, _):
        assert answer(crew, "path").result == sys.path


def test_errors_are_raised_as_they_are_and_the_worker_lives_on():
    with crew_of() as (crew, [process]):
        event = answer(crew, "value_error")
        assert (type(event), type(event.error), str(event.error)) == (Raised, ValueError, "no such value")
        event = answer(crew, "connection_error")
        assert (type(event.error), str(event.error)) == (EOFError, "the file ends")
        event = answer(crew, "odd_error")
        assert (type(event.error), str(event.error)) == (WorkError, "OddError: oddness")
        event = answer(crew, "function")
        assert type(event) is Raised
        assert "pickle" in str(event.error)
        event = answer(crew, "unknown")
        assert type(event.error) is WorkError
        assert str(event.error) == "what came from its worker cannot be read: LookupError: of another process"
        assert answer(crew, "echo", "still here").result == "still here"
        assert lives(process)


@pytest.mark.parametrize(
    ("task", "how"),
    [
        (("kill",), "its process died of SIGKILL; most likely for want of memory"),
        (("kill", signal.SIGSEGV), "its process died of SIGSEGV"),
        (("leave", 3), "its process ended with exit code 3"),
        (("panic",), "its process ended with exit code 1"),
        (("kill", signal.SIGTERM), "its process ended with exit code 143"),
        (("swallow",), "its process ended with exit code 143"),
        (("end_while_held",), "its process ended with exit code 143"),
    ],
)
def test_it_is_told_how_a_worker_died_and_another_takes_its_number(task, how):
    with crew_of() as (crew, [process]):
        assert answer(crew, *task) == Died(0, how)
        assert not lives(process)
        crew.start(0)
        [ready] = crew.events(SOON)
        assert ready.facts != process
        assert answer(crew, "echo", 1) == Done(0, 1)


@linux
@pytest.mark.parametrize("handles_of_processes", [True, False])
def test_a_death_is_told_though_others_hold_what_the_worker_held(tmp_path, monkeypatch, handles_of_processes):
    if not handles_of_processes:
        monkeypatch.delattr(os, "pidfd_open")
    with crew_of(begin=Beginning(tmp_path)) as (crew, _):
        began = time.monotonic()
        event = answer(crew, "fork_that_lives_on")
        assert type(event) is Died
        assert time.monotonic() - began < 10  # the child lives for 20 seconds
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("look", [None, 0.1])
def test_deaths_are_told_where_the_system_has_no_handles_of_processes(monkeypatch, look):
    def missing(_process):
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "pidfd_open", missing, raising=False)
    if look is not None:
        monkeypatch.setattr(worker_processes, "_SECONDS_BETWEEN_LOOKS", look)
    with crew_of() as (crew, [process]):
        began = time.monotonic()
        assert crew.events(0.3) == []
        assert time.monotonic() - began >= 0.3
        os.kill(process, signal.SIGKILL)
        assert [type(event) for event in crew.events(None)] == [Died]


def test_one_that_died_idle_is_told_of_and_may_be_given_a_task_before():
    with crew_of() as (crew, [process]):
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: not lives(process))
        crew.give(0, ("echo", 1))
        assert [type(event) for event in crew.events(SOON)] == [Died]


@pytest.mark.parametrize(("fault", "told"), [("value_error", "no such value"), ("connection_error", "the file ends")])
def test_a_worker_that_cannot_begin_tells_why_and_is_ended(fault, told):
    crew = LocalCrew(Beginning(fault=fault))
    with contextlib.closing(crew):
        before = children()
        crew.start(0)
        [event] = crew.events(SOON)
        assert (type(event), str(event.error)) == (Raised, told)
        assert crew.events(0.2) == []  # it lives on
        crew.end(0)
        assert children() == before
        assert crew.events(0) == []


@pytest.mark.parametrize(
    ("begin", "environment", "how"),
    [
        (Beginning(fault="kill"), {}, "its process died of SIGKILL; most likely for want of memory"),
        (Beginning(fault="leave"), {}, "its process ended with exit code 3"),
        (Beginning(), {"PYTHONHOME": "/nowhere"}, "its process ended with exit code 1"),
    ],
)
def test_a_worker_that_dies_at_its_start_is_told_of(begin, environment, how):
    with contextlib.closing(LocalCrew(begin, environments=[environment])) as crew:
        crew.start(0)
        assert crew.events(SOON) == [Died(0, how)]


def test_a_process_that_cannot_be_started_counts_as_dead(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = handles()
    with contextlib.closing(LocalCrew(Beginning())) as crew:
        crew.start(0)
        [event] = crew.events(None)
        assert type(event) is Died
        assert event.how.startswith("its process could not be started: ")
        assert "/nowhere/python" in event.how
    assert handles() == before


def test_what_cannot_be_pickled_is_told_where_the_worker_is_started():
    crew = LocalCrew(lambda worker: (None, worker))
    before = children()
    with pytest.raises(Exception, match="pickle"):
        crew.start(0)
    assert children() == before


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(worker_processes.os, "name", "nt")
    with pytest.raises(MisuseError, match="several workers need Linux or macOS"):
        LocalCrew(Beginning())


def test_the_work_is_closed_at_the_end(tmp_path):
    with crew_of(2, begin=Beginning(tmp_path)) as (crew, _):
        assert list(tmp_path.iterdir()) == []
        crew.end(1)
        assert [path.name for path in tmp_path.iterdir()] == ["closed-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed-0", "closed-1"]


def test_work_is_left_and_cleaned_up_when_the_crew_is_closed(tmp_path):
    with crew_of(2, begin=Beginning(tmp_path)) as (crew, processes):
        for worker in range(2):
            crew.give(worker, ("hold", f"held-{worker}"))
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        began = time.monotonic()
        crew.close()
        assert time.monotonic() - began < 4  # nobody had to be killed
        assert sorted(path.name for path in tmp_path.iterdir()) == ["closed-0", "closed-1"]
        assert not any(map(lives, processes))
        crew.close()
        assert crew.events(0) == []


def test_the_deaf_are_killed_all_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "_SECONDS_TO_LEAVE", 0.5)
    with crew_of(3, begin=Beginning(tmp_path)) as (crew, processes):
        for worker in range(3):
            crew.give(worker, ("deaf", f"held-{worker}"))
        wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
        os.kill(processes[2], signal.SIGSTOP)
        began = time.monotonic()
        crew.close()
        assert 0.5 <= time.monotonic() - began < 1.4
        assert not any(map(lives, processes))


def test_nothing_is_left_behind():
    before, open_before = children(), handles()
    with crew_of(2) as (crew, [_, process]):
        os.kill(process, signal.SIGKILL)
        assert [type(event) for event in crew.events(SOON)] == [Died]
    assert children() == before
    assert handles() == open_before
    crew = LocalCrew(Beginning())
    crew.start(0)
    del crew  # nobody closes it
    assert children() == before


def test_an_interrupt_leaves_the_wait_at_once_and_the_processes_end(tmp_path):
    with crew_of(begin=Beginning(tmp_path)) as (crew, [process]):
        crew.give(0, ("hold", "held"))
        wait_until((tmp_path / "held").exists)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            crew.events(None)
    assert not lives(process)
    assert [path.name for path in tmp_path.iterdir()] == ["closed-0"]


def test_whoever_cannot_wait_for_the_end_has_them_killed(tmp_path):
    with crew_of(begin=Beginning(tmp_path)) as (crew, [process]):
        crew.give(0, ("deaf", "held"))
        wait_until((tmp_path / "held").exists)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            crew.close()
        assert time.monotonic() - began < 3
        assert not lives(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_the_end_of_a_terminal_are_the_drivers_affair(number):
    with crew_of() as (crew, [process]):
        os.kill(process, number)
        assert crew.events(0.1) == []
        assert answer(crew, "kill", number) == Done(0, None)
    with contextlib.closing(LocalCrew(Beginning())) as early:  # also before Python has begun
        before = children()
        early.start(0)
        [child] = children() - before
        os.kill(child, number)
        assert [type(event) for event in early.events(SOON)] == [Ready]


@linux
def test_helpers_and_alarms_work_in_a_worker():
    with crew_of() as (crew, _):
        assert answer(crew, "squares_by_helpers", list(range(9))).result == [number**2 for number in range(9)]
        assert answer(crew, "alarm").result is True


def test_what_workers_print_goes_to_stderr_and_they_read_nothing(capfd):
    with crew_of() as (crew, _):
        assert answer(crew, "read").result == ""
        assert type(answer(crew, "shout")) is Done
    assert capfd.readouterr() == ("", "shouted\nshouted\n")


def test_a_task_whose_worker_is_killed_is_done_by_another(tmp_path):
    said = []
    tasks = [("echo", number) for number in range(20)]
    tasks[7], tasks[11] = ("kill_once", "seven"), ("kill",)
    retrying = Retrying()
    with Supervisor(LocalCrew(Beginning(tmp_path)), 2, retrying=retrying, say=said.append) as supervisor:
        outcomes = {outcome.task: outcome for outcome in supervisor.results(tasks)}
        assert len(outcomes) == 20
        assert [outcomes["echo", number].result for number in range(20) if number not in {7, 11}] == [
            number for number in range(20) if number not in {7, 11}
        ]
        assert (outcomes["kill_once", "seven"].result, outcomes["kill_once", "seven"].attempts) == ("seven", 2)
        assert str(outcomes["kill",].error).startswith("its worker died: its process died of SIGKILL")
        assert outcomes["kill",].attempts == 3
        assert supervisor.replaced == len(said) == 4


def test_one_worker_that_cannot_begin_does_not_stop_the_others():
    said = []
    crew = LocalCrew(Beginning(fault="kill", worker=0))
    with Supervisor(crew, 2, retrying=Retrying(), say=said.append) as supervisor:
        tasks = [("echo", number) for number in range(3)]
        assert sorted(outcome.result for outcome in supervisor.results(tasks)) == [0, 1, 2]
    with (
        Supervisor(LocalCrew(Beginning(fault="value_error")), 2, retrying=Retrying()) as supervisor,
        pytest.raises(WorkError, match="no worker could be started: ValueError: no such value"),
    ):
        supervisor.facts()


DRIVER = """\
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from scalselect.engines.worker_processes import LocalCrew
from small_work import Beginning
supervisor = Supervisor(LocalCrew(Beginning(Path({folder!r}))), 2, retrying=Retrying())
"""
ECHO = """\
print(sorted(outcome.result for outcome in supervisor.results(range(6))))
print([outcome.result for outcome in supervisor.results([("main_module",)])])
supervisor.close()
"""


@pytest.mark.parametrize("way", ["script", "stdin", "closed stdin and stderr", "not closed"])
def test_scripts_need_no_guard_and_their_output_is_their_own(tmp_path, way):
    code = DRIVER.format(tests=TESTS, folder=str(tmp_path)) + ECHO
    code = code.replace("supervisor.close()", "") if way == "not closed" else code
    script = tmp_path / "script.py"
    script.write_text(code)
    words, given = [sys.executable, str(script)], None
    if way == "stdin":
        words, given = [sys.executable, "-"], code
    if way == "closed stdin and stderr":
        words = ["sh", "-c", 'exec "$0" "$1" <&- 2>&-', *words]
    ended = subprocess.run(words, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "[0, 1, 2, 3, 4, 5]\n[['json', 'main', 'sys']]\n"
    assert list(tmp_path.glob("closed-*"))  # not of one that had not begun yet


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_driver(tmp_path, number):
    tasks = '[("helper_that_hangs", "helper"), ("deaf", "held")]'
    code = DRIVER.format(tests=TESTS, folder=str(tmp_path)) + f"list(supervisor.results({tasks}))"
    driver = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: (tmp_path / "held").exists() and (tmp_path / "helper").exists())
        wait_until(lambda: (tmp_path / "helper").read_text() != "")
        below = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        below.append((tmp_path / "helper").read_text())
        assert len(below) == 3
        assert all(map(lives, below))
    finally:
        driver.send_signal(number)
        driver.wait()
    wait_until(lambda: not any(map(lives, below)), 5)

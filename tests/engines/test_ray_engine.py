"""Workers in a real Ray cluster: tasks done once, deaths told, nodes lost, errors as they were, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray_tasks import Begins, Closes, LacksFile, NestedError

from ray_cluster import RayMachines, descendants, processes_that_name
from scalselect.engines import ray_engine, ray_engine_crew
from scalselect.engines.ray_engine import ray_cluster
from scalselect.engines.retrying import Retrying
from scalselect.engines.supervision import Supervisor
from scalselect.errors import OptionError, WorkError

ONCE = Retrying(attempts=1)
THRICE = Retrying()


@pytest.fixture(scope="module", autouse=True)
def no_tokens():
    """Keep Ray from writing a token into the home folder of who runs the tests, and from using one that lies there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def machines():
    with RayMachines(2) as machines:
        yield machines


@pytest.fixture
def said():
    return []


@pytest.fixture
def cluster(machines, said):
    with ray_cluster(machines.address, say=said.append) as cluster:
        yield cluster


@pytest.fixture
def supervisor(cluster, said):
    """Return a function (begin, workers=2, retrying=...) -> Supervisor, closed with the test."""
    with contextlib.ExitStack() as opened:

        def supervise(begin, workers=2, retrying=THRICE):
            crew = cluster.crew(begin, cpus=1, gpus=0)
            return opened.enter_context(Supervisor(crew, workers, retrying=retrying, say=said.append))

        yield supervise


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def actors():
    """Return the numbers of the processes of actors in clusters that these tests started."""
    return sorted(set(processes_that_name("ray::Actor")) & set(descendants(os.getpid())))


def free_again(before):
    import ray

    wait_for(lambda: ray.available_resources().get("CPU") == before.get("CPU"))


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(OptionError, match=r"engine ray needs `pip install 'scalselect\[ray\]'`"),
        ray_cluster("auto", say=print),
    ):
        pass


def test_importing_the_engine_loads_no_ray():
    code = "import sys, scalselect.engines.ray_engine as engine; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    code = "import sys, scalselect.engines.ray_engine as engine; engine._imported(); print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://head:10001", "takes no address of a Ray client: ray://head:10001"),
        ("head", "is host:port, `auto` or `local`: head"),
        ("head:port", "is host:port, `auto` or `local`: head:port"),
        (":6379", "is host:port, `auto` or `local`: :6379"),
        ("127.0.0.1:1", "no Ray cluster can be used at 127.0.0.1:1"),
        ("127.0.0.1:99999999999", "no Ray cluster can be used at 127.0.0.1:9"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_at_once(address, words, monkeypatch):
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(OptionError, match=words), ray_cluster(address, say=print):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(OptionError, match=words), ray_cluster(None, say=print):
        pass
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_port_that_is_not_of_ray_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(ray_engine, "_TO_CONNECT", 4.0)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(OptionError, match=f"{address}: no answer within 4 seconds"),
            ray_cluster(address, say=print),
        ):
            pass
    assert time.monotonic() - began < 12


def test_a_cluster_that_wants_a_token_is_told_apart(monkeypatch):
    pytest.importorskip("ray")
    code = "import sys, time; print('RPC error: InvalidAuthToken', file=sys.stderr, flush=True); time.sleep(60)"
    monkeypatch.setattr(ray_engine, "_TRIAL", code)
    monkeypatch.setattr(ray_engine, "_TO_CONNECT", 1.0)
    with pytest.raises(OptionError, match="RAY_AUTH_MODE=token"), ray_cluster("auto", say=print):
        pass


@pytest.mark.slow
def test_without_a_cluster_none_is_started(monkeypatch, tmp_path):
    import ray

    if processes_that_name("gcs_server"):
        pytest.skip("a cluster of somebody else runs on this machine")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    words = r"no Ray cluster runs on this machine.*ray start --head.*--ray-address"
    with pytest.raises(OptionError, match=words), ray_cluster(None, say=print):
        pass
    assert not ray.is_initialized()
    assert not processes_that_name("raylet")


@pytest.mark.slow
def test_local_is_a_cluster_of_its_own(said, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers are to find the tests
    with ray_cluster("local", say=said.append) as cluster:
        assert (cluster.nodes, cluster.gpus) == (1, 0)
        assert cluster.default_workers(1, 0) == cluster.cpus == os.cpu_count()
        with Supervisor(cluster.crew(Begins(), cpus=1, gpus=0), 1, retrying=ONCE, say=said.append) as supervisor:
            assert [outcome.result for outcome in supervisor.results([1, 2])] == [2, 4]
    wait_for(lambda: not [process for process in descendants(os.getpid()) if process in processes_that_name("raylet")])
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_every_task_is_done_once_over_two_nodes(cluster, supervisor, tmp_path, capfd):
    assert (cluster.nodes, cluster.cpus, cluster.gpus) == (2, 2, 0)
    assert (cluster.default_workers(1, 0), cluster.default_workers(0.5, 0), cluster.default_workers(1, 1)) == (2, 4, 0)
    kept = supervisor(Begins(tmp_path, 0.02))
    assert set(kept.facts()) == {"worker", "process"}
    assert sorted(outcome.result for outcome in kept.results(range(60))) == [2 * task for task in range(60)]
    done = [name.name.split("-")[1:] for name in tmp_path.glob("did-*")]
    assert sorted(int(task) for task, _ in done) == list(range(60))
    assert len({process for _, process in done}) == 2
    assert len(actors()) == 2  # as another test looks for them
    assert len({hired.place.node for hired in kept._crew._hired.values()}) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_task_done_again(supervisor, said, tmp_path, capfd):
    kept = supervisor(Begins(tmp_path, 0.05))
    facts = kept.facts()
    outcomes = []
    for outcome in kept.results(range(30)):
        outcomes.append(outcome)
        if len(outcomes) == 4:
            os.kill(facts["process"], signal.SIGKILL)
    assert sorted(outcome.result for outcome in outcomes) == [2 * task for task in range(30)]
    assert kept.replaced == 1
    assert len(said) == 1
    assert "died at" in said[0]
    assert "on the node" in said[0]
    assert "common causes" not in said[0]
    assert len(list(tmp_path.glob("did-*"))) == 30
    assert capfd.readouterr() == ("", "")  # Ray has much to say of it


@pytest.mark.slow
def test_errors_come_as_they_were(supervisor):
    kept = supervisor(Begins(), 1, ONCE)
    tasks = [KeyError("five"), NestedError("deep", shard=3), "not here", "lock", 1]
    errors = [outcome.error for outcome in kept.results(tasks)]
    assert [type(error) for error in errors] == [KeyError, NestedError, WorkError, TypeError, type(None)]
    assert errors[0].args == ("five",)
    assert errors[1].shard == 3
    assert str(errors[2]) == "NotHereError: 1 2"
    assert kept.replaced == 0


@pytest.mark.slow
def test_what_ends_a_process_is_a_death(supervisor, said):
    kept = supervisor(Begins(), 1, ONCE)
    errors = [outcome.error for outcome in kept.results(["exit", 1, "interrupt", 2])]
    assert [type(error) for error in errors] == [WorkError, type(None), WorkError, type(None)]
    assert "exit code 3" in str(errors[0])
    assert kept.replaced == 2


@pytest.mark.slow
def test_work_runs_in_the_main_thread_and_arrays_are_writable(supervisor):
    kept = supervisor(Begins(), 1, ONCE)
    in_main, alarmed, array = (outcome.result for outcome in kept.results(["main thread", "alarm", "array"]))
    assert in_main
    assert alarmed
    array += 1
    assert np.array_equal(array, np.arange(1.0, 200_001.0))


@pytest.mark.slow
def test_a_fatal_error_and_one_of_beginning_end_the_work(supervisor, said):
    kept = supervisor(Begins(), 2, Retrying(fatal=(NestedError,)))
    with pytest.raises(NestedError, match="all is lost"):
        list(kept.results([1, NestedError("all is lost"), 2]))
    kept.close()
    with pytest.raises(WorkError, match="no worker could be started: ValueError: no model"):
        supervisor(Begins(error=ValueError("no model")), 1).facts()
    with pytest.raises(NestedError, match="bad model"):
        supervisor(Begins(error=NestedError("bad model")), 1, Retrying(fatal=(NestedError,))).facts()


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [False, True])
def test_the_cluster_is_left_as_it_was_found_and_no_file_half_written(cluster, interrupted, tmp_path):
    import ray

    before = ray.available_resources()
    crew = cluster.crew(Begins(tmp_path), cpus=1, gpus=0)
    with contextlib.suppress(KeyboardInterrupt), Supervisor(crew, 2, retrying=ONCE) as kept:
        process = kept.facts()["process"]
        if interrupted:
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                list(kept.results(["writing"]))
            assert time.monotonic() - began < 2
            assert (tmp_path / "half").exists()
            raise KeyboardInterrupt
        assert [outcome.result for outcome in kept.results([1])] == [2]
    assert not (tmp_path / "half").exists()
    wait_for(lambda: not Path(f"/proc/{process}").exists())
    free_again(before)
    assert not crew._hired
    assert not crew._owners
    crew.close()
    assert not actors()


@pytest.mark.slow
def test_idle_workers_close_their_work_before_they_end(supervisor, tmp_path):
    kept = supervisor(Closes(tmp_path))
    assert sorted(outcome.result for outcome in kept.results([1, 2, 3])) == [1, 2, 3]
    wait_for(lambda: kept.alive == 2 or bool(kept._hear(0.1)))
    kept.close()
    assert len(list(tmp_path.glob("closed-*"))) == 2


@pytest.mark.slow
def test_a_connection_that_was_there_is_used_and_kept(machines):
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    with ray_cluster(machines.address, say=print):
        assert ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is handler
        with ray_cluster("127.0.0.1:1", say=print) as inner:
            assert inner.nodes == 2
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
def test_what_no_node_has_is_refused_before_any_work(cluster, said):
    with pytest.raises(OptionError, match="no node of the cluster has a GPU: 2 nodes with 2 CPUs"):
        cluster.check(LacksFile("PATH"), 1, 1, 1)
    with pytest.raises(
        OptionError, match=r"a worker needs 2 CPUs, which no node .*: its largest nodes have 1 CPU; 1 CPU"
    ):
        cluster.check(LacksFile("PATH"), 1, 2, 0)
    cluster.check(LacksFile("PATH"), 2, 1, 0)
    assert said == []
    cluster.check(LacksFile("PATH"), 3, 1, 0)
    assert said == ["3 workers were asked for, and the cluster has room for 2: the others wait"]


@pytest.mark.slow
def test_nodes_that_have_answered_are_not_asked_to_stop(cluster, monkeypatch):
    """That would race with the end of their task, and now and then abort this process in Ray's compiled code."""
    cancelled = []
    monkeypatch.setattr(cluster._ray, "cancel", lambda reference, **_: cancelled.append(reference))
    cluster.check(LacksFile("PATH"), 2, 1, 0)
    assert cancelled == []


@pytest.mark.slow
def test_nodes_that_cannot_do_the_work_are_told_and_a_lost_one_is_survived(said, tmp_path, monkeypatch):
    """One cluster for what changes nodes; the first one stays whole for the other tests."""
    fake = tmp_path / "fake" / "scalselect"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("__version__ = '0.0.1'\n", encoding="utf-8")
    monkeypatch.setattr(ray_engine_crew, "_UNTIL_TOLD", 2.0)
    monkeypatch.chdir(tmp_path)  # Ray lets workers import what lies here
    with RayMachines(1, environment={"SEEN": "1"}) as machines:
        machines.add(environment={"SEEN": ""})
        with ray_cluster(machines.address, say=said.append) as cluster:
            with pytest.raises(OptionError, match=r"the node .* cannot take part: the run folder is not there: SEEN"):
                cluster.check(LacksFile("SEEN"), 2, 1, 0)
            _a_node_is_removed_in_the_middle(cluster, machines, said, tmp_path)
            cluster.check(LacksFile("SEEN"), 1, 1, 0)
            machines.add(environment={"SEEN": "1", "PYTHONPATH": str(fake.parent)})
            with pytest.raises(OptionError, match=r"cannot take part: it has scalselect 0.0.1, and here is"):
                cluster.check(LacksFile("SEEN"), 1, 1, 0)
            machines.remove(-1)
            (fake / "__init__.py").write_text("raise ImportError('no such package')", encoding="utf-8")
            wait_for(lambda: cluster.nodes == 1)
            machines.add(environment={"SEEN": "1", "PYTHONPATH": str(fake.parent)})
            with pytest.raises(OptionError, match=r"cannot take part: ImportError: no such package"):
                cluster.check(LacksFile("SEEN"), 1, 1, 0)
    assert not processes_that_name(machines._folder)


def _a_node_is_removed_in_the_middle(cluster, machines, said, folder):
    crew = cluster.crew(Begins(folder, 0.5), cpus=1, gpus=0)
    with Supervisor(crew, 2, retrying=Retrying(), say=said.append) as kept:
        outcomes = []
        for outcome in kept.results(range(20)):
            outcomes.append(outcome)
            if len(outcomes) == 4:
                wait_for(lambda: kept.alive == 2 or bool(kept._hear(0.1)))
                machines.remove(1)
        assert sorted(outcome.result for outcome in outcomes) == [2 * task for task in range(20)]
        assert kept.replaced == 1
        assert sum(outcome.attempts for outcome in outcomes) == 21
    place = next(place for place, words in enumerate(said) if "died at" in words)
    died, waits = said[place : place + 2]  # before, a slow start may have been told
    # What Ray knows at that moment: that the node is gone, or only that nobody answers there.
    assert re.search("(is lost|cannot be reached any more on the node .*); it is replaced", died)
    waiting = "waits for a place with 1 CPU, [2-5] s by now; 0 of 1 CPUs are free on 1 node; the others go on"
    assert re.fullmatch(f"worker [01] {waiting}", waits)


@pytest.mark.parametrize("looks", [1, 3, None])
def test_an_unreachable_worker_is_told_by_what_ray_finds_of_its_node(monkeypatch, looks):
    """Ray says that nobody answers a moment before it says that the node is gone; `looks`: after so many it does."""
    monkeypatch.setattr(ray_engine_crew, "_TO_NOTICE", 0.2)
    monkeypatch.setattr(ray_engine_crew, "_POLL", 0.001)
    seen = []

    def nodes():
        seen.append(1)
        return [{"NodeID": "n", "Alive": looks is None or len(seen) < looks}]

    class UnavailableError(Exception):
        pass

    crew = object.__new__(ray_engine_crew.RayCrew)
    kinds = SimpleNamespace(RayError=RuntimeError, ActorUnavailableError=UnavailableError)
    crew._ray = SimpleNamespace(nodes=nodes, exceptions=kinds)
    hired = SimpleNamespace(place=SimpleNamespace(node="n", address="192.0.2.7"))
    gone, silent = "the node 192.0.2.7 is lost", "it cannot be reached any more on the node 192.0.2.7"
    assert crew._how(hired, UnavailableError()) == (silent if looks is None else gone)
    seen.clear()
    if looks is None:
        assert crew._how(hired, RuntimeError("its process ended")) == "on the node 192.0.2.7: its process ended"
        assert len(seen) == 1  # a death that Ray is sure of is not waited for


def test_messages_of_ray_are_cut_to_what_happened():
    died = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: W\nThe actor is dead because its "
        "worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits with an exit code 3. "
        "Some common causes include: (1) the process was killed by the OOM killer"
    )
    words = ray_engine_crew.words_of(RuntimeError(died))
    assert words == "Worker exits with an exit code 3"
    killed = RuntimeError("The actor died.\n\tpid: 3\nThe actor is dead because it was killed by `ray.kill`.")
    assert ray_engine_crew.words_of(killed) == "The actor is dead because it was killed by `ray.kill`"
    assert len(ray_engine_crew.words_of(RuntimeError("x" * 1000))) == 300
    assert ray_engine_crew.words_of(RuntimeError()) == "RuntimeError"


def test_errors_that_cannot_be_sent_are_told_in_words():
    succeeded, error, words = pickle.loads(ray_engine_crew_told("not here"))
    assert (succeeded, words) == (False, "NotHereError: 1 2")
    assert isinstance(pickle.loads(error), WorkError)


def ray_engine_crew_told(task):
    pytest.importorskip("ray")
    from scalselect.engines.ray_engine_actor import _told

    return _told(lambda: Begins().do(task))

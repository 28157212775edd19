"""What engines cannot do is refused before any work: exit code 2, a message, and nothing written."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import scalselect
from inline_crew import work_inline
from ray_cluster import RayMachines
from scalselect import workforce
from scalselect.engines import ray_engine, worker_processes
from scalselect.errors import OptionError
from scored_runs import clustered_vectors, scored_run
from small_pools import command, promised_files, write_pool

NO_CLUSTER = "127.0.0.1:1"


@pytest.fixture(scope="module")
def pool(tmp_path_factory, pictures):
    return write_pool(tmp_path_factory.mktemp("misuse"), pictures, rows=6)


@pytest.fixture
def refused(tmp_path, capsys):
    """Return a function (*words) that gives the one message of a command that must be refused."""

    def message(*words):
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert command(*words) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert "Traceback" not in told.err
        errors = [line for line in told.err.splitlines() if line.startswith(("error: ", "scalselect"))]
        assert len(errors) == 1, told.err
        assert sorted(tmp_path.rglob("*")) == before
        return errors[0]

    return message


@pytest.fixture
def words(tmp_path, pool, checkpoints):
    """Return the words of a run, into a folder two levels of which are still to be made."""
    model = ("--model", checkpoints("llava"))
    return ["run", pool, *model, "--budget", "50%", "--threads", "1", "--output", tmp_path / "runs" / "first"]


@pytest.fixture
def ray_environment(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def launched(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "0"], "workers must be a whole number of at least 1: 0"),
        (["--workers", "two"], "two"),
        (["--workers", "2", "--devices", "0,1"], "workers and devices exclude each other: 2 and '0,1'"),
        (["--engine", "ray", "--devices", "0"], "devices has no effect with engine `ray`"),
        (["--ray-address", "head:6379"], "ray_address has no effect without engine `ray`: 'head:6379'"),
        (["--engine", "slurm"], "slurm"),
        (["--devices", ","], "devices names none: ','"),
        (["--device", "cpu", "--devices", "0,1"], "device and devices exclude each other: cpu and 0,1"),
        (
            ["--device", "cuda:1", "--workers", "2"],
            "device names one accelerator, and 2 workers were asked for: cuda:1",
        ),
    ],
)
def test_options_that_cannot_be(refused, words, options, told):
    assert told in refused(*words, *options)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        (["--device", "cuda"], "cuda"),
        (["--device", "cuda", "--workers", "1"], "cuda"),
        (["--device", "cuda", "--workers", "2"], "cuda"),
        (["--devices", "0"], "cuda:0"),
        (["--devices", "0,1"], "cuda:0"),
        (["--devices", "cpu,7"], "cuda:7"),
    ],
)
def test_an_accelerator_that_is_not_there(refused, words, monkeypatch, options, device):
    crews = work_inline(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told = refused(*words, *options)
    assert told.startswith(f"error: device cannot be used here: {device} (")
    assert told.endswith("; `cpu` always can")
    for crew in crews:
        assert crew.begun == [0, 1]  # once each: it is the same the next time


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "model folder has no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), "model"),
    ],
)
def test_a_model_that_workers_cannot_load(refused, words, tmp_path, monkeypatch, checkpoints, fault, told):
    crews = work_inline(monkeypatch)
    model = shutil.copytree(checkpoints("llava"), tmp_path / "model")
    fault(model)
    words[words.index("--model") + 1] = model
    assert told in refused(*words, "--workers", "2", "--device", "cpu")
    assert crews[0].given == []


def test_a_model_that_does_not_exist(refused, words, monkeypatch):
    work_inline(monkeypatch)
    words[words.index("--model") + 1] = "/nowhere/at/all"
    assert "model folder does not exist: /nowhere/at/all" in refused(*words, "--workers", "2", "--device", "cpu")


def test_folders_that_were_there_stay(refused, words, tmp_path, monkeypatch):
    work_inline(monkeypatch)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    words[words.index("--model") + 1] = "/nowhere/at/all"
    refused(*words, "--workers", "2", "--device", "cpu")  # compares what lies there before and after


@pytest.mark.usefixtures("ray_environment")
def test_ray_is_not_installed(refused, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(*words, "--engine", "ray") == "error: engine ray needs `pip install 'scalselect[ray]'`"


@pytest.mark.usefixtures("ray_environment")
def test_a_cluster_that_is_not_there(refused, words):
    told = refused(*words, "--engine", "ray", "--ray-address", NO_CLUSTER)
    assert told.startswith(f"error: no Ray cluster can be used at {NO_CLUSTER}: ")
    assert "`ray start --head`" in told


@pytest.mark.usefixtures("ray_environment")
@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ray://head:10001", "--ray-address takes no address of a Ray client: ray://head:10001"),
        ("head", "--ray-address is host:port, `auto` or `local`: head"),
    ],
)
def test_what_is_no_address(refused, words, address, told):
    assert told in refused(*words, "--engine", "ray", "--ray-address", address)


@pytest.mark.usefixtures("ray_environment")
def test_an_address_of_the_environment_that_answers_nothing(refused, words, monkeypatch):
    with socket.socket() as listening:  # what was listening there has just ended
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"no Ray cluster can be used at {address}" in refused(*words, "--engine", "ray")


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("options", [["--workers", "2"], ["--devices", "0,1"], ["--engine", "ray"]])
def test_workers_of_a_launchers_process(refused, words, options):
    asked = " ".join(options).removeprefix("--")
    told = (
        f"error: {asked} has no effect in process 1 of 2 that torchrun started: each of them is a worker; leave it out"
    )
    assert refused(*words, *options) == told


@pytest.mark.usefixtures("launched")
def test_a_launchers_number_beyond_its_world(refused, words, monkeypatch):
    monkeypatch.setenv("RANK", "2")
    assert "RANK must lie between 0 and WORLD_SIZE - 1: 2 and 2; unset both to work alone" in refused(*words)


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 1}, {"devices": "0,1"}, {"engine": "ray"}])
def test_workers_cannot_have_a_loaded_model(tmp_path, pool, options):
    model = SimpleNamespace(config=None, get_decoder=None, set_attn_implementation=None)
    [(name, value)] = options.items()
    told = (
        f"^{name} {value} needs a model that workers can load: a folder or a hub name, not an object of this process$"
    )
    with pytest.raises(OptionError, match=told):
        scalselect.run(pool, model=model, budget=2, output=tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


class OtherMachine:
    """A cluster with one node that sees other files; `seen` is what it lacks."""

    gpus = 0.0
    cpus = 2.0

    def __init__(self, gone):
        self._gone = gone

    def default_workers(self, _cpus, _gpus):
        return 2

    def check(self, look, _workers, _cpus, _gpus):
        self._gone(look)
        wrong = look()
        assert wrong
        raise OptionError(f"the node 10.0.0.7 of the Ray cluster cannot take part: {wrong}")

    def crew(self, *_arguments, **_options):
        pytest.fail("a worker was begun")


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (
            lambda look, _pool: object.__setattr__(look, "trial", look.trial + "-of-another"),
            "the run folder is not the",
        ),
        (lambda look, pool: object.__setattr__(look, "data", (f"{pool}-of-another",)), "the data are not there"),
    ],
)
def test_a_node_that_sees_other_files(refused, words, pool, monkeypatch, gone, told):
    """The one that looks is the real one; the machine is this one, with other names for things."""
    cluster = OtherMachine(lambda look: gone(look, pool))
    monkeypatch.setattr(ray_engine, "ray_cluster", lambda _address, **_say: contextlib.nullcontext(cluster))
    message = refused(*words, "--engine", "ray")
    assert message.startswith(f"error: the node 10.0.0.7 of the Ray cluster cannot take part: {told}")
    assert "must lie on storage that all machines share" in message


@pytest.fixture
def run(tmp_path):
    """Return a run folder of 20 shards, scored by nobody."""
    return scored_run(tmp_path / "scored", clustered_vectors(1000), score=False)


@pytest.mark.usefixtures("ray_environment")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "ray", "--ray-address", NO_CLUSTER], f"no Ray cluster can be used at {NO_CLUSTER}"),
        (["--workers", "0"], "workers must be a whole number of at least 1: 0"),
        (["--ray-address", "auto"], "ray_address has no effect without engine `ray`"),
        (["--devices", "0"], "unrecognized arguments"),
    ],
)
def test_scoring(refused, run, options, told, monkeypatch):
    before = promised_files(run), (run / "run.json").read_bytes()
    assert told in refused("score", run, *options)
    assert (promised_files(run), (run / "run.json").read_bytes()) == before


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("is_scored", [False, True])
def test_workers_of_a_launchers_process_that_scores(refused, run, is_scored, monkeypatch):
    if is_scored:
        with monkeypatch.context() as alone:
            alone.delenv("RANK")
            scalselect.score(run)
    told = (
        "error: workers 2 has no effect in process 1 of 2 that torchrun started: each of them is a worker; leave it out"
    )
    assert refused("score", run, "--workers", "2") == told


def test_devices_are_nothing_to_scoring(run):
    with pytest.raises(
        OptionError, match=r"^devices has no effect on scoring, which runs on CPUs: '0,1'; give workers$"
    ):
        scalselect.score(run, devices="0,1")


def test_scoring_vectors_of_ones_own_begins_no_folder(refused, tmp_path, launched):
    np.save(tmp_path / "X.npy", clustered_vectors(40))
    told = refused("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "own", "--workers", "2")
    assert "workers 2 has no effect in process 1 of 2" in told


def test_extending(refused, words, tmp_path, pictures, monkeypatch, shared_models_kept):
    """A run that is to be extended stays as it was."""
    crews = work_inline(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = tmp_path / "runs" / "first"
    assert command(*words) == 0
    more = write_pool(tmp_path / "more", pictures, rows=3)
    recorded = json.loads((run / "run.json").read_text())
    before = promised_files(run)
    for options, told in (
        (["--devices", "0,1"], "device cannot be used here: cuda:0 ("),
        (["--workers", "2", "--device", "cuda"], "device cannot be used here: cuda (no accelerator is visible)"),
        (["--workers", "0"], "workers must be a whole number of at least 1: 0"),
    ):
        assert told in refused("extend", run, more, *options)
    assert crews == []
    assert json.loads((run / "run.json").read_text()) == recorded
    assert promised_files(run) == before


def test_several_workers_need_linux_or_macos(refused, words, monkeypatch):
    monkeypatch.setattr(worker_processes, "os", SimpleNamespace(name="nt"))
    told = refused(*words, "--workers", "2", "--device", "cpu")
    assert told.startswith("error: several workers need Linux or macOS: this is ")
    assert told.endswith("; use one worker")


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--devices", "0,1"], ["--workers", "2", "--device", "cpu"]])
def test_real_processes_that_cannot_begin(refused, words, tmp_path, monkeypatch, options):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if "--workers" in options:
        (tmp_path / "model").mkdir()
        words[words.index("--model") + 1] = tmp_path / "model"
    told = refused(*words, *options)
    assert "device cannot be used here: cuda:" in told or "model folder has no config.json" in told


@pytest.mark.slow
@pytest.mark.usefixtures("ray_environment")
def test_a_real_node_that_sees_another_folder(refused, words, monkeypatch):
    """What marks the run folder is gone when the node looks for it, as where it has another disk there."""
    look_from_worker = workforce.look_from_worker

    @contextlib.contextmanager
    def other_disk(*arguments):
        with look_from_worker(*arguments) as look:
            Path(look.trial).unlink()
            yield look

    monkeypatch.setattr(workforce, "look_from_worker", other_disk)
    with RayMachines(1) as machines:
        told = refused(*words, "--engine", "ray", "--ray-address", machines.address, "--device", "cpu")
    assert "of the Ray cluster cannot take part: the run folder is not the one seen from here: " in told

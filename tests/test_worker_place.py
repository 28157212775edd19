"""Where work runs is settled from options, launcher and machine; what cannot be is refused in words."""

from __future__ import annotations

import re

import pytest

from scalselect import worker_place
from scalselect.config import RepresentConfig
from scalselect.engine_options import EngineConfig
from scalselect.engines.torchrun_engine import Rank
from scalselect.errors import OptionError
from scalselect.run_folder import RunFolder
from scalselect.vlm import settings
from scalselect.worker_place import Look, WorkerPlace, look_from_worker, place_of
from shard_workers import segment_of


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch):
    monkeypatch.setattr(worker_place, "usable_cpus", lambda: 16)


@pytest.fixture
def see(monkeypatch):
    """Return a function (number) that lets this process see so many accelerators."""

    def seeing(number):
        monkeypatch.setattr(settings, "visible_accelerators", lambda: [f"cuda:{at}" for at in range(number)])

    return seeing


@pytest.fixture
def launch(monkeypatch):
    """Return a function (number, world, local, local_world) that makes this process one of a launcher's."""

    def launched(*numbers):
        for name, number in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), numbers, strict=True):
            monkeypatch.setenv(name, str(number))

    return launched


def cudas(*numbers):
    return tuple(f"cuda:{number}" for number in numbers)


# Accelerators there are, option device, options of the engine; then devices of workers, and of this process.
PLACES = [
    (0, "auto", {}, (), None),
    (1, "auto", {}, (), None),
    (2, "auto", {}, cudas(0, 1), "cuda:0"),
    (8, "auto", {}, cudas(*range(8)), "cuda:0"),
    (2, "cuda", {}, (), None),  # one was named
    (2, "cuda:1", {}, (), None),
    (2, "cpu", {}, (), None),
    (0, "auto", {"workers": 1}, (), "cpu"),
    (0, "auto", {"workers": 3}, ("cpu",) * 3, "cpu"),
    (1, "auto", {"workers": 1}, (), "cuda:0"),
    (2, "auto", {"workers": 1}, (), "cuda:0"),
    (2, "auto", {"workers": 2}, cudas(0, 1), "cuda:0"),
    (8, "auto", {"workers": 3}, cudas(0, 1, 2), "cuda:0"),
    (8, "cuda", {"workers": 8}, cudas(*range(8)), "cuda:0"),
    (2, "cpu", {"workers": 1}, (), "cpu"),
    (2, "cpu", {"workers": 4}, ("cpu",) * 4, "cpu"),
    (2, "cuda:1", {"workers": 1}, (), "cuda:1"),
    (2, "auto", {"devices": "1"}, (), "cuda:1"),
    (2, "auto", {"devices": "1,0"}, cudas(1, 0), "cuda:1"),
    (2, "auto", {"devices": "0,0"}, cudas(0, 0), "cuda:0"),
    (2, "auto", {"devices": "cpu,cpu"}, ("cpu", "cpu"), "cpu"),
    (0, "auto", {"devices": "0,1"}, cudas(0, 1), "cuda:0"),  # who is there tells that there is no such device
]


@pytest.mark.parametrize(("accelerators", "device", "engine", "devices", "here"), PLACES)
def test_the_device_of_every_worker(see, accelerators, device, engine, devices, here):
    see(accelerators)
    config = RepresentConfig(device=device)
    place = place_of(EngineConfig(**engine), config)
    named = "devices" in engine and len(devices) > 1
    assert place == WorkerPlace(devices=devices, here=here, named=named)
    assert place.is_elsewhere == place.shares_files == (len(devices) > 1)
    assert place.config_here(config).device == (here or device)
    assert place.cpus_here == (16 // len(devices) if devices else None)


def test_without_a_model_workers_are_on_cpus_and_no_accelerator_is_looked_for(monkeypatch):
    monkeypatch.setattr(settings, "visible_accelerators", pytest.fail)
    assert place_of(EngineConfig()) == WorkerPlace()
    assert place_of(EngineConfig(workers=1)) == WorkerPlace(here="cpu")
    assert place_of(EngineConfig(workers=3)) == WorkerPlace(devices=("cpu",) * 3, here="cpu")


def test_a_cluster_settles_itself_how_many_workers_and_where(monkeypatch):
    monkeypatch.setattr(settings, "visible_accelerators", pytest.fail)
    place = place_of(EngineConfig(engine="ray", ray_address="head:6379", workers=3), RepresentConfig())
    assert place == WorkerPlace(ray=True, ray_address="head:6379", workers=3)
    assert place.is_elsewhere
    assert not place.shares_files
    assert place.cpus_here is None
    assert place_of(EngineConfig(engine="ray")).workers is None


def test_a_loaded_model_stays_in_this_process(monkeypatch):
    monkeypatch.setattr(settings, "visible_accelerators", pytest.fail)
    assert place_of(EngineConfig(), RepresentConfig(), is_loaded=True) == WorkerPlace()


@pytest.mark.parametrize(
    ("accelerators", "device", "local", "here"),
    [
        (0, "auto", 1, None),
        (1, "auto", 1, None),
        (2, "auto", 0, "cuda:0"),
        (2, "auto", 1, "cuda:1"),
        (2, "cuda", 3, "cuda:1"),  # more processes than accelerators share them
        (8, "auto", 3, "cuda:3"),
        (8, "cpu", 3, None),
        (8, "cuda:5", 3, None),
    ],
)
def test_of_a_launchers_processes_each_has_its_accelerator(see, launch, accelerators, device, local, here):
    see(accelerators)
    launch(4 + local, 8, local, 4)
    config = RepresentConfig(device=device)
    place = place_of(EngineConfig(), config)
    assert place == WorkerPlace(rank=Rank("torchrun", 4 + local, 8, local, 4), here=here)
    assert not place.is_elsewhere
    assert place.cpus_here == 4
    assert place.config_here(config).device == (here or device)
    assert place_of(EngineConfig(), config, is_loaded=True).here is None
    assert place_of(EngineConfig()).here is None


@pytest.mark.parametrize(("sharing", "cpus"), [(1, None), (3, 5), (16, 1), (40, 1)])
def test_shares_of_the_cpus_are_never_none(sharing, cpus):
    assert WorkerPlace(rank=Rank("torchrun", 0, 64, 0, sharing)).cpus_here == cpus
    assert WorkerPlace(devices=("cpu",) * sharing).cpus_here == cpus
    assert WorkerPlace().cpus_here is None


REFUSED = [
    (0, "cuda", {"workers": 2}, "device cannot be used here: cuda (no accelerator is visible); `cpu` always can"),
    (0, "cuda", {"workers": 1}, "device cannot be used here: cuda (no accelerator is visible); `cpu` always can"),
    (
        2,
        "auto",
        {"workers": 3},
        (
            "workers are more than the accelerators there are: 3 of 2; give fewer, name devices that workers are to "
            "share (devices 0,0), or device `cpu`"
        ),
    ),
    (1, "cuda", {"workers": 2}, "workers are more than the accelerators there are: 2 of 1; give fewer"),
    (2, "cuda:1", {"workers": 2}, "device names one accelerator, and 2 workers were asked for: cuda:1; name them all"),
    (2, "cpu", {"devices": "0,1"}, "device and devices exclude each other: cpu and 0,1"),
    (2, "cuda", {"devices": "0"}, "device and devices exclude each other: cuda and 0"),
    (
        2,
        "cuda:1",
        {"engine": "ray"},
        "device names one accelerator, and a cluster chooses which a worker gets: cuda:1; give auto, cuda or cpu",
    ),
]


@pytest.mark.parametrize(("accelerators", "device", "engine", "told"), REFUSED)
def test_what_is_refused(see, accelerators, device, engine, told):
    see(accelerators)
    with pytest.raises(OptionError, match=f"^{re.escape(told)}"):
        place_of(EngineConfig(**engine), RepresentConfig(device=device))


@pytest.mark.parametrize(
    ("engine", "asked"),
    [({"workers": 1}, "workers 1"), ({"devices": "0,1"}, "devices 0,1"), ({"engine": "ray"}, "engine ray")],
)
def test_what_neither_a_launcher_nor_a_loaded_model_goes_with(see, launch, engine, asked):
    see(2)
    with pytest.raises(OptionError, match=f"^{asked} needs a model that workers can load: a folder or a hub name, not"):
        place_of(EngineConfig(**engine), RepresentConfig(), is_loaded=True)
    launch(1, 2, 1, 2)
    told = f"^{asked} has no effect in process 1 of 2 that torchrun started: each of them is a worker; leave it out"
    for config in (None, RepresentConfig()):
        with pytest.raises(OptionError, match=told):
            place_of(EngineConfig(**engine), config)


def test_a_launchers_variables_that_contradict_one_another_are_refused_here_as_well(launch):
    launch(2, 2, 0, 2)
    with pytest.raises(OptionError, match="RANK must lie between 0 and WORLD_SIZE - 1: 2 and 2"):
        place_of(EngineConfig())


def segment_at(path, images):
    from dataclasses import replace

    return replace(segment_of(1), path=str(path), images=str(images))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "pool.json").write_text("[]")
    return segment_at(tmp_path / "pool.json", tmp_path / "images")


@pytest.mark.parametrize("exists", [False, True])
def test_a_look_at_what_is_there_leaves_nothing(tmp_path, data, exists):
    folder = RunFolder(tmp_path / "run")
    if exists:
        folder.path.mkdir()
    with look_from_worker(folder, [data]) as look:
        assert look() is None
        assert folder.path.is_dir()
    assert folder.path.exists() == exists
    assert not exists or list(folder.path.iterdir()) == []
    assert "the run folder is not the one seen from here" in look()


def test_a_look_keeps_what_others_wrote_meanwhile(tmp_path, data):
    folder = RunFolder(tmp_path / "run")
    with look_from_worker(folder, [data]):
        (folder.path / "run.json").touch()
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("gone", ["pool.json", "images"])
def test_a_machine_that_lacks_data_says_which(tmp_path, data, gone):
    with look_from_worker(RunFolder(tmp_path / "run"), [data]) as look:
        (tmp_path / gone).rename(tmp_path / "elsewhere")
        told = f"the data are not there: {tmp_path / gone}; they must lie on storage that all machines share"
        assert look() == told


def test_a_machine_with_a_folder_of_the_same_name_is_not_taken_for_one_that_shares_it(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    with look_from_worker(RunFolder(here), []) as look:
        elsewhere = Look(str(there / look.trial.rpartition("/")[2]), str(there))
    assert elsewhere() == (
        f"the run folder is not the one seen from here: {there}; it must lie on storage that all machines share, or in "
        "a bucket (s3://, gs://)"
    )


def test_what_lies_in_a_bucket_or_in_memory_is_not_looked_for_on_disks(tmp_path, data):
    import pickle

    listed = segment_of(1)
    far = segment_at("s3://bucket/pool.json", "s3://bucket/images")
    with look_from_worker(RunFolder(tmp_path / "run"), [listed, far, data]) as look:
        assert look.data == ("s3://bucket/pool.json", "s3://bucket/images", data.path, data.images)
        assert pickle.loads(pickle.dumps(look))() is None

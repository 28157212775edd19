"""Every engine makes what one process makes, byte for byte, though workers are killed and nodes are lost on the way."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest

import scalselect
from engine_runs import (
    Command,
    Watched,
    check_equal,
    files_of_shards,
    holders,
    is_alive,
    kill,
    leave_half_written,
    names_on_disk,
    published,
    stopped_at_a_shard,
    wait_for,
)
from ray_cluster import RayMachines, descendants
from scalselect.engines import supervision
from small_pools import command, record, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")

SHARDS = 40
THREADS = 2  # of which torchrun and Ray would make one
OPTIONS = [
    *("--budget", "25%", "--threads", THREADS, "--shard-size", "2", "--vectors", "vision+instruction"),
    *("--explanations", "2"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def watched(place):
    return Watched(place / "watched")


@pytest.fixture(autouse=True)
def _nothing_told(watched):
    watched.forget()


@pytest.fixture(scope="module")
def words(place, pictures, checkpoints):
    """Return a function (output, *further) -> the words of a run over 80 rows in 40 shards, scored in three parts."""
    data = write_pool(place / "data", pictures, rows=2 * SHARDS)
    return lambda output, *more: [
        *("run", data, "--model", checkpoints("llava"), "--output", output, *OPTIONS, *more),
    ]


@pytest.fixture(scope="module")
def reference(place, words):
    """Return the run folder that one process makes."""
    assert command(*words(place / "reference")) == 0
    return place / "reference"


@pytest.fixture
def begin(watched, tmp_path):
    """Return a function (words, **options) -> a command under way."""

    def begun(words, *, ranks=0, **environment):
        return Command(words, tmp_path / "said", {**watched.environment, **environment}, ranks=ranks)

    return begun


@pytest.fixture(scope="module")
def cluster(watched):
    with RayMachines(2, cpus=THREADS, environment=watched.environment) as machines:
        yield machines


@pytest.fixture
def machines(cluster):
    """Return a cluster of two nodes, each with room for one worker."""
    while len(cluster.nodes) < 2:
        cluster.add(THREADS)
    return cluster


@pytest.fixture
def engine_words(request):
    """Return a function (engine) -> the words that ask for it with two workers."""

    def words_of(engine):
        if engine == "ray":
            return ["--engine", "ray", "--ray-address", request.getfixturevalue("machines").address, "--workers", "2"]
        return ["--workers", "2"] if engine == "local" else []

    return words_of


def ranks_of(engine):
    return 3 if engine == "torchrun" else 0


def check_threads(watched):
    """Check that everything was worked out with the recorded number of threads, by several processes."""
    told = watched.told()
    assert {tuple(one.threads) for one in told} == {(THREADS,)}, told
    assert {one.number for one in told if one.what == "representations"} == {0, 1, 2}
    assert {one.number for one in told if one.what == "instruction_representations"} == {0, 1, 2}
    assert len({one.process for one in told if one.what == "shard"}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "torchrun", "ray"])
def test_every_engine_makes_the_same(engine, engine_words, words, reference, begin, watched, tmp_path):
    out = tmp_path / "run"
    with begin(words(out, *engine_words(engine)), ranks=ranks_of(engine)) as under_way:
        assert under_way.ends() == 0, under_way.said()
    check_equal(out, reference)
    assert watched.shards() == list(range(SHARDS))
    check_threads(watched)


@pytest.mark.parametrize(
    "engine",
    ["local", pytest.param("torchrun", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)],
)
def test_workers_are_killed_and_nodes_lost_in_the_middle(
    engine, engine_words, words, reference, begin, watched, tmp_path, request
):
    """What is lost is the shard that the worker was at, and nothing of it is left."""
    out = tmp_path / "run"
    with begin(words(out, *engine_words(engine)), ranks=ranks_of(engine)) as under_way:
        process, shard = wait_for(stopped_at_a_shard(out, after=5), [under_way])
        lost = {shard}
        leave_half_written(out, shard)
        kill(process)
        if engine == "ray":
            nodes = request.getfixturevalue("cluster")
            second = nodes.nodes[-1]

            def at_work_there():
                there = second.processes()
                return {number for number, holder in holders(out).items() if holder in there and holder != process}

            lost |= wait_for(at_work_there, [under_way])
            assert len(published(out)) < SHARDS - 5
            nodes.remove(-1)
        code = under_way.ends()
        told = under_way.said()
    if engine == "torchrun":  # it ends the others; what was finished stays, also with another number of processes
        assert code != 0
        before = files_of_shards(out, published(out))
        assert 15 <= len(before) < 3 * SHARDS
        with begin(words(out), ranks=2) as under_way:
            assert under_way.ends() == 0, under_way.said()
        assert before.items() <= files_of_shards(out, range(SHARDS)).items()
    else:
        assert code == 0, told
        assert f"died at shard {shard}: " in told
        assert len(watched.shards()) <= SHARDS + len(lost) + 1
    if engine == "ray":
        assert re.search("(is lost|cannot be reached any more on the node .*); it is replaced", told)
    assert set(watched.shards()) == set(range(SHARDS))
    check_equal(out, reference)
    check_threads(watched)


@pytest.mark.slow
def test_of_processes_without_a_launcher_that_watches_one_is_killed(words, reference, begin, watched, tmp_path):
    """As with Slurm, nobody ends the others: these finish everything, and none waits for the dead one."""
    out = tmp_path / "run"
    with contextlib.ExitStack() as stack:
        all_ranks = [
            stack.enter_context(begin(words(out), RANK=str(rank), WORLD_SIZE="3", OMP_NUM_THREADS="1"))
            for rank in range(3)
        ]
        killed = all_ranks[1].process.pid
        others = [other.process.pid for other in all_ranks if other.process.pid != killed]
        _, shard = wait_for(stopped_at_a_shard(out, after=5, but=others), all_ranks)
        assert shard % 3 == 1
        leave_half_written(out, shard)
        kill(killed)
        assert [other.ends() for other in (all_ranks[0], all_ranks[2])] == [0, 0], all_ranks[0].said()
    assert {number for number in watched.shards() if watched.shards().count(number) > 1} <= {shard}
    assert set(watched.shards()) == set(range(SHARDS))
    check_equal(out, reference)
    check_threads(watched)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("engine", ["local", "torchrun", "ray"])
def test_a_run_that_is_ended_leaves_nothing_and_goes_on(
    engine, name, engine_words, words, reference, begin, watched, tmp_path
):
    out = tmp_path / "run"
    with begin(words(out, *engine_words(engine)), ranks=ranks_of(engine)) as under_way:
        at_work = wait_for(lambda: len(published(out)) >= 5 and set(holders(out).values()), [under_way])
        at_work = at_work | set(descendants(under_way.process.pid))
        if name == "SIGINT":
            under_way.interrupt()
        else:
            under_way.process.terminate()
        code = under_way.ends()
        told = under_way.said()
    if engine == "torchrun":
        assert code != 0  # torchrun's own
    else:
        assert code == 128 + getattr(signal, name), told
        assert "scalselect run" in told.splitlines()[-1]
    wait_for(lambda: not any(map(is_alive, at_work)))
    assert [entry for entry in names_on_disk(out) if Path(entry).name.startswith(".") or ".claims" in entry] == []
    done = published(out)
    assert 5 <= len(done) < SHARDS
    before = files_of_shards(out, done)
    watched.forget()
    with begin(words(out, *engine_words(engine)), ranks=ranks_of(engine)) as under_way:
        assert under_way.ends() == 0, under_way.said()
    assert watched.shards() == [number for number in range(SHARDS) if number not in done]
    assert before.items() <= files_of_shards(out, range(SHARDS)).items()
    check_equal(out, reference)


@pytest.mark.slow
def test_a_worker_that_hangs_at_the_end_is_overtaken(words, reference, watched, tmp_path, monkeypatch, capsys):
    out, stopped = tmp_path / "run", []
    for name, value in watched.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WATCHED_SECONDS", "0.5")
    monkeypatch.setattr(supervision, "_SECONDS_UNTIL_SLOW", 3.0)

    def hang():
        stopped.append(wait_for(stopped_at_a_shard(out, after=SHARDS - 12)))
        leave_half_written(out, stopped[0][1])

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    assert command(*words(out, "--workers", "2")) == 0
    hanging.join()
    ((process, shard),) = stopped
    assert not is_alive(process)
    told = [one for one in watched.told() if one.what == "shard"]
    assert [one.process != process for one in told if one.number == shard][-1:] == [True]
    assert sorted({one.number for one in told}) == list(range(SHARDS))
    check_equal(out, reference)


@pytest.mark.slow
def test_a_shard_at_which_every_worker_dies_fails_alone(words, reference, begin, watched, tmp_path):
    out = tmp_path / "run"
    with begin(words(out, "--workers", "2"), WATCHED_DEADLY="7") as under_way:
        assert under_way.ends() == 1
        told = under_way.said()
    assert told.count("died at shard 7: ") == 3
    assert "shard 7 failed after 3 attempts: its worker died: " in told
    assert published(out) == set(range(SHARDS)) - {7}
    assert not (out / ".claims").exists()
    watched.forget()
    with begin(words(out)) as under_way:
        assert under_way.ends() == 0, under_way.said()
    assert watched.shards() == [7]
    check_equal(out, reference)


@pytest.mark.slow
def test_scoring_again_and_extending_with_workers(reference, words, pictures, checkpoints, tmp_path):
    """Both subspaces go through the files of parts; new shards are those that one process makes."""
    alone, shared = (shutil.copytree(reference, tmp_path / name) for name in ("alone", "shared"))
    more = write_pool(tmp_path / "more", pictures, rows=7).rename(tmp_path / "more.json")
    for folder, workers in ((alone, []), (shared, ["--workers", "2"])):
        assert command("score", folder, "--energy", "0.7", *workers) == 0
    assert not (shared / "selected.json").exists()
    check_equal(shared, alone)
    for folder, workers in ((alone, []), (shared, ["--workers", "2"])):
        assert command("select", folder, "--budget", "9") == 0
        assert command("extend", folder, more, "--model", checkpoints("llava"), *workers) == 0
    assert len(published(shared)) == SHARDS + 4
    check_equal(shared, alone)


@pytest.mark.slow
def test_several_data_sets_in_the_order_of_images(pictures, checkpoints, tmp_path):
    for rows, name in ((21, "first"), (30, "second")):
        write_pool(tmp_path / name, pictures, rows=rows)
    for name, workers in (("alone", []), ("shared", ["--workers", "2"])):
        words = ["run", f"a={tmp_path / 'first' / 'pool.json'}", f"b={tmp_path / 'second' / 'pool.json'}", *OPTIONS]
        words += ["--model", checkpoints("llava"), "--order", "image", "--output", tmp_path / name]
        assert command(*words, *workers) == 0
    assert len(published(tmp_path / "shared")) == 11 + 15
    check_equal(tmp_path / "shared", tmp_path / "alone")


@pytest.mark.slow
def test_a_python_list(pictures, checkpoints, tmp_path):
    records = [record(row, pictures[row % 6]) for row in range(40)]
    for name, workers in (("alone", None), ("shared", 2)):
        result = scalselect.run(
            records,
            model=checkpoints("llava"),
            budget=9,
            output=tmp_path / name,
            shard_size=2,
            threads=THREADS,
            explanations=2,
            workers=workers,
        )
        assert len(result.rows) == 9
    check_equal(tmp_path / "shared", tmp_path / "alone")

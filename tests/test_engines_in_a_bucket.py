"""Workers that share a run folder in an object store: killed with their driver, continued, and equal to one process."""

from __future__ import annotations

import pytest

from engine_runs import Command, Watched, check_equal, holders, is_alive, kill, published, wait_for
from object_store import download, names_in
from ray_cluster import RayMachines, descendants
from small_pools import command, write_pool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_models_kept")]

SHARDS = 34  # scored in three parts
OPTIONS = ["--budget", "25%", "--threads", "2", "--shard-size", "2", "--explanations", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("engines_in_a_bucket")


@pytest.fixture(scope="module")
def words(place, pictures, checkpoints):
    """Return a function (output, *further) -> the words of a run over 68 rows on this disk."""
    data = write_pool(place / "data", pictures, rows=2 * SHARDS)
    return lambda output, *more: ["run", data, "--model", checkpoints("llava"), "--output", output, *OPTIONS, *more]


@pytest.fixture(scope="module")
def reference(place, words):
    assert command(*words(place / "reference")) == 0
    return place / "reference"


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path / "watched", seconds=0.3)


@pytest.fixture
def machines(bucket, watched):
    """Return a cluster whose workers reach the bucket, as `bucket` has set it in the environment."""
    with RayMachines(2, cpus=2, environment=watched.environment) as machines:
        yield machines


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_with_its_driver_and_continued(engine, words, reference, bucket, watched, tmp_path, request):
    out = f"{bucket}/runs/shared"
    options = ["--workers", "2"]
    if engine == "ray":
        options += ["--engine", "ray", "--ray-address", request.getfixturevalue("machines").address]

    def workers():
        return set(holders(out, names_in).values())

    with Command(words(out, *options), tmp_path / "said", watched.environment) as under_way:
        wait_for(lambda: len(published(out, names_in)) >= 4, [under_way])
        both = wait_for(lambda: len(found := workers()) == 2 and found, [under_way])
        own = set(descendants(under_way.process.pid))
        assert both <= own if engine == "local" else not both & own
        kill(under_way.process.pid)
        wait_for(lambda: not any(map(is_alive, both)))  # nobody is left to work for
    done = published(out, names_in)
    assert 4 <= len(done) < SHARDS - 4
    watched.forget()
    with Command(words(out, *options), tmp_path / "again", watched.environment) as under_way:
        assert under_way.ends() == 0, under_way.said()
    assert watched.shards() == [shard for shard in range(SHARDS) if shard not in done]
    there = download(out, tmp_path / "there")
    check_equal(there, reference)
    logs = {path.name: path.read_text() for path in (there / "logs").iterdir()}
    assert all(" begins: " in text for text in logs.values())
    ended = {name[:10] for name, text in logs.items() if text.splitlines()[-1].endswith(" ends")}
    assert ended == {"worker-000", "worker-001"}
    lines = [line for text in logs.values() for line in text.splitlines()]
    told = {int(line.split()[3].rstrip(":")) for line in lines if " info shard " in line}
    assert told >= set(range(SHARDS)) - done

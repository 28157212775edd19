"""The promise of equal bytes, word by word: fixed batches, recorded threads, `auto` resolved once, any order.

Other batches, another number type and another image fit do give other bytes on this pool, which the tests show beside
what they promise; what the effects are is measured by `benchmarks/determinism.py`.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kept_models import keep_loaded
from scalselect import shard_work
from scalselect.config import RepresentConfig
from scalselect.dataset.opening import open_pool
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm import settings, window
from scalselect.vlm.settings import resolve_settings
from small_pools import command, promised_files, write_pool

ROWS, SHARD = 17, 5
OPTIONS = ["--budget", "50%", "--shard-size", SHARD, "--vectors", "vision+instruction"]


@pytest.fixture(scope="module", autouse=True)
def _as_many_threads_as_cpus():
    """Let `auto` stand for all CPUs: one thread could not be told from too few."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("OMP_NUM_THREADS", raising=False)
        yield


@pytest.fixture(scope="module")
def model(checkpoints):
    return checkpoints("qwen3_vl", "small")


@pytest.fixture(scope="module")
def data(tmp_path_factory, pictures):
    """Return a pool of 17 rows in four shards over six pictures; one row's picture does not exist."""
    path = write_pool(tmp_path_factory.mktemp("data"), pictures, rows=ROWS)
    records = json.loads(path.read_bytes())
    records[9]["image"] = "gone.png"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, model):
    """Return the folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert command("run", data, "--model", model, *OPTIONS, "--max-skipped", "20%", "--output", out) == 0
    return out


@pytest.fixture
def run(data, model, monkeypatch):
    """Return a function (output, *options) that runs the command as `whole` did, and returns the exit code."""
    keep_loaded(monkeypatch)
    words = ["run", data, "--model", model, *OPTIONS, "--max-skipped", "20%"]
    return lambda output, *options: command(*words, *options, "--output", output)


@pytest.fixture
def stopped(run, tmp_path, monkeypatch):
    """Return the folder of a run that was interrupted while its third shard was prepared."""
    _interrupt_at(12, monkeypatch)
    assert run(tmp_path / "run") == 130
    monkeypatch.undo()
    keep_loaded(monkeypatch)
    assert len(list((tmp_path / "run" / "representations").glob("*.json"))) == 2
    return tmp_path / "run"


def _interrupt_at(number, monkeypatch):
    """Interrupt this process, wherever samples are prepared, when it takes the n-th group of them."""
    original, count = ShardWork._take, iter(range(10**6))

    def interrupted(*arguments):
        if next(count) == number:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(ShardWork, "_take", interrupted)


@pytest.fixture
def shard_files(loaded, data, model, tmp_path):
    """Return a function (shards in an order, **options) -> what is stored of them; one process does all of them.

    Of the reports all but the times: what was computed anew and what was reused does not depend on the order either.
    """

    def represent(order, **options):
        config = RepresentConfig(shard_size=SHARD, vectors="vision+instruction", **options)
        folder = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        resolved = resolve_settings(config, model, None)
        store = RepresentationStore(folder)
        work = ShardWork(open_pool(data), loaded("qwen3_vl"), store, config, resolved, {"torch": "x"})
        for shard in order:
            work(shard)
        stored = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}
        reports = {f"report of {shard:07}": replace(store.report(shard), seconds={}) for shard in order}
        return stored | reports

    return represent


def test_a_shard_does_not_depend_on_which_ones_were_done_before_it(shard_files):
    """No picture, prefix or batch goes over from one shard to the next, in whatever order they are done."""
    in_order = shard_files(range(4))
    assert len(in_order) == 3 * 4
    assert shard_files([3, 2, 1, 0]) == in_order
    assert shard_files(random.Random(7).sample(range(4), 4)) == in_order
    alone = shard_files([2])
    assert alone == {name: content for name, content in in_order.items() if "0000002" in name}
    assert shard_files(range(4), batch_size=1) != in_order


def test_batches_are_a_function_of_rows_and_recorded_budget(shard_files, monkeypatch):
    """The batches themselves are compared: by number of processes, and by what was done before."""
    planned = []
    original = window.plan_batches

    def noting(lengths, **limits):
        batches = original(lengths, **limits)
        planned.append((tuple(lengths), tuple(map(tuple, batches)), tuple(limits.items())))
        return batches

    monkeypatch.setattr(window, "plan_batches", noting)
    found = []
    for processes in (0, 1, 2):
        planned.clear()
        shard_files([2], dataloader_workers=processes)
        found.append(list(planned))
    planned.clear()
    shard_files([0, 1, 3, 2])
    assert found[0] == found[1] == found[2]
    assert planned[-len(found[0]) :] == found[0]
    assert max(len(batch) for _, batches, _ in found[0] for batch in batches) > 1


@pytest.mark.parametrize("processes", ["0", "1", "2"])
def test_number_of_preparing_processes(run, whole, tmp_path, processes):
    assert run(tmp_path / "run", "--dataloader-workers", processes) == 0
    assert promised_files(tmp_path / "run") == promised_files(whole)


def test_interrupted_at_random_again_and_again(run, whole, tmp_path, monkeypatch):
    moments, out = random.Random(os.urandom(8)), tmp_path / "run"
    for _ in range(3):
        number = moments.randrange(6)
        with monkeypatch.context() as patched:
            _interrupt_at(number, patched)
            assert run(out) in {0, 130}
    assert run(out) == 0
    assert promised_files(out) == promised_files(whole)


def test_threads_are_the_recorded_ones(run, whole, stopped, monkeypatch):
    """Neither environment nor torch's own setting has a say once run.json is there; another count is another run."""
    recorded = json.loads((stopped / "run.json").read_bytes())["represent"]["threads"]
    used, original = [], window.launch_batch

    def noting(*arguments, **options):
        used.append(torch.get_num_threads())
        return original(*arguments, **options)

    monkeypatch.setattr(window, "launch_batch", noting)
    monkeypatch.setenv("OMP_NUM_THREADS", str(recorded + 1))
    before = torch.get_num_threads()
    torch.set_num_threads(recorded + 2)
    try:
        assert run(stopped) == 0
        assert torch.get_num_threads() == recorded + 2  # the caller's own is left as it was
    finally:
        torch.set_num_threads(before)
    assert set(used) == {recorded}
    assert promised_files(stopped) == promised_files(whole)
    assert run(stopped, "--threads", str(recorded + 1)) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process to some CPUs")
def test_fewer_cpus_on_continuing(run, stopped, whole):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert run(stopped) == 0
    finally:
        os.sched_setaffinity(0, allowed)
    assert promised_files(stopped) == promised_files(whole)


@pytest.mark.parametrize(
    ("name", "otherwise", "recorded"),
    [
        ("_BATCH_TOKENS", {"cpu": 96, "cuda": 96}, "batch_tokens"),
        ("_auto_dtype", lambda *_a, **_o: "bfloat16", "dtype"),
        ("_usable_threads", lambda: 3, "threads"),
        ("declared_image_fit", lambda _config: "pad", "image_fit"),
    ],
)
def test_auto_is_resolved_once(run, stopped, whole, tmp_path, monkeypatch, name, otherwise, recorded):
    """A machine, a release or a configuration where `auto` would mean something else continues what was begun."""
    monkeypatch.setattr(settings, name, otherwise)
    assert run(stopped) == 0
    assert promised_files(stopped) == promised_files(whole)
    if recorded != "threads":  # three threads need not give other digits than one or two on so small a model
        assert run(tmp_path / "begun-there") == 0
        assert promised_files(tmp_path / "begun-there") != promised_files(whole)
    else:
        assert run(tmp_path / "begun-there") == 0
    there, here = (json.loads((path / "run.json").read_bytes()) for path in (tmp_path / "begun-there", whole))
    assert there["represent"][recorded] != here["represent"][recorded]


def test_two_workers_that_take_turns(loaded, data, model, tmp_path, whole):
    """Two of them with models of their own share the shards of one store: each adopts what the other has done."""
    config = RepresentConfig(shard_size=SHARD, vectors="vision+instruction")
    resolved = resolve_settings(config, model, None)
    store = RepresentationStore(tmp_path / "store")
    one, other = (
        ShardWork(open_pool(data), loaded("qwen3_vl", revision=None, dtype=dtype), store, config, resolved, {})
        for dtype in ("auto", "float32")
    )
    for shard, work in ((3, one), (0, other), (3, other), (1, one), (0, one), (2, other)):
        work(shard)
    expected = {path.name: path.read_bytes() for path in (whole / "representations").iterdir()}
    found = {path.name: path.read_bytes() for path in store.folder.iterdir() if path.suffix != ".json"}
    assert found == {name: content for name, content in expected.items() if not name.endswith(".json")}


def test_files_listed_in_another_order(run, data, model, tmp_path, pictures, monkeypatch):
    """A folder's order of entries is an accident of the file system; rows follow the names."""
    folder = tmp_path / "pool"
    folder.mkdir()
    records = json.loads(data.read_bytes())
    for part in (2, 0, 1):  # not made in the order of their names
        rows = [{**record, "image": str(pictures[0])} for record in records[part * 5 : part * 5 + 5]]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{part}.parquet")
    words = ["run", folder, "--model", model, *OPTIONS]
    assert command(*words, "--output", tmp_path / "one") == 0
    listed = []
    for module, name in ((os, "scandir"), (os, "listdir")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, _reversed(original, listed))
    assert command(*words, "--output", tmp_path / "other") == 0
    assert listed
    monkeypatch.undo()
    assert promised_files(tmp_path / "one") == promised_files(tmp_path / "other")
    assert pq.read_table(tmp_path / "one" / "scores.parquet")["id"].to_pylist() == [f"row-{row}" for row in range(15)]


def _reversed(original, listed):
    class Entries(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

        def __next__(self):
            if not self:
                raise StopIteration
            return self.pop(0)

    def listing(*arguments):
        entries = list(original(*arguments))
        names = [getattr(entry, "name", entry) for entry in entries]
        listed.append(names)
        order = np.argsort(names)[::-1]
        return Entries(entries[i] for i in order)

    return listing


def test_times_alone_are_outside_the_promise(run, whole, tmp_path, monkeypatch):
    """Of everything in the folder that is not promised, only times differ between two runs, and seals over them."""
    monkeypatch.setattr(shard_work.time, "perf_counter", iter(range(10**6)).__next__)
    assert run(tmp_path / "run") == 0
    for name in ["run.json", *(f"representations/shard-000000{shard}.json" for shard in range(4))]:
        one, other = (json.loads((folder / name).read_bytes()) for folder in (whole, tmp_path / "run"))
        differing = {key for key in one | other if one.get(key) != other.get(key)}
        assert differing <= {"created", "seconds", "seal"}
    assert promised_files(tmp_path / "run") == promised_files(whole)

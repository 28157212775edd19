"""A sample that crashes its process, hangs, or does not fit into the memory costs itself, and is counted.

Everything here happens with the default number of processes.
"""

import ctypes
import json
import os
import signal
import time

import numpy as np
import pytest
import torch

from scalselect import sample_work
from scalselect.engines.processes import can_fork
from scalselect.errors import SampleError
from scalselect.records import Reason
from scalselect.representation_store import RepresentationStore
from scalselect.vlm import window
from scalselect.vlm.sample_preparer import SamplePreparer
from small_pools import command, promised_files, write_pool

pytestmark = pytest.mark.skipif(not can_fork, reason="processes are forked on Linux alone")

CRASHED = "preparation_crashed"
FAULTS = {
    "SIGSEGV": (lambda: os.kill(os.getpid(), signal.SIGSEGV), CRASHED, "process died of SIGSEGV"),
    "abort": (os.abort, CRASHED, "process died of SIGABRT"),
    "exit": (lambda: os._exit(7), CRASHED, "process ended with exit code 7"),
    "sleep": (lambda: time.sleep(1e9), "preparation_timed_out", "longer than 1 seconds"),
    "hangs in C": (lambda: ctypes.PyDLL(None).sleep(10**6), "preparation_timed_out", "longer than 1 seconds"),
}


@pytest.fixture
def pool(tmp_path, pictures):
    """Return a pool of 18 rows: six pictures, three questions each; one picture is `bad`."""
    return write_pool(tmp_path / "data", pictures, rows=18)


@pytest.fixture
def run(pool, checkpoints, tmp_path):
    def make(name, *options):
        words = ["represent", pool, "--model", checkpoints("llava"), "--output", tmp_path / name, "--threads", "1"]
        code = command(*words, "--max-skipped", "60%", "--shard-size", "9", "--sample-seconds", "1", *options)
        return code, RepresentationStore(tmp_path / name / "representations")

    return make


def opening(bad, fault):
    """Return what opens images, and does something else with the bad one."""
    original = sample_work.open_image

    def opened(path, **options):
        if path == bad:
            fault()
        return original(path, **options)

    return opened


def preparing(word, fault):
    original = SamplePreparer.prepare

    def prepare(self, sample, *arguments):
        if word in str(sample.turns):
            fault()
        return original(self, sample, *arguments)

    return prepare


def unreadable():
    raise SampleError(Reason.IMAGE_UNREADABLE, "as any other bad image")


def vectors_of(store):
    return [(store.folder / f"shard-000000{shard}.safetensors").read_bytes() for shard in (0, 1)]


def skipped_rows(store):
    rows = [row for shard in (0, 1) for row in store.rows(shard).to_pylist()]
    assert [row["row"] for row in rows] == list(range(18))
    return {row["row"]: (row["reason"], row["detail"]) for row in rows if row["status"] == "skipped"}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_image_that_cannot_be_decoded_without_harm_costs_its_rows(run, pictures, monkeypatch, fault):
    harm, reason, words = FAULTS[fault]
    bad = str(pictures[2])
    monkeypatch.setattr(sample_work, "open_image", opening(bad, unreadable))
    assert run("undisturbed", "--dataloader-workers", "0")[0] == 0
    monkeypatch.setattr(sample_work, "open_image", opening(bad, harm))
    began = time.monotonic()
    code, store = run("disturbed")
    assert code == 0
    assert time.monotonic() - began < 60
    found = skipped_rows(store)
    assert sorted(found) == [2, 8, 14]
    for row in found:
        assert found[row][0] == reason
        assert words in found[row][1]
    assert store.report(0).reasons == {reason: 2}
    assert store.report(0).counts == {"scored": 7, "skipped": 2}
    undisturbed = RepresentationStore(store.folder.parent.parent / "undisturbed" / "representations")
    assert vectors_of(store) == vectors_of(undisturbed)


@pytest.mark.parametrize("fault", ["SIGSEGV", "hangs in C"])
def test_of_rows_that_show_the_same_image_only_the_bad_one_is_lost(run, pool, pictures, monkeypatch, fault):
    harm, reason, words = FAULTS[fault]
    records = json.loads(pool.read_text())
    for number, item in enumerate(records):
        item["image"] = str(pictures[number // 9])  # nine rows of one image: one group
        item["conversations"][0]["value"] = f"<image>\nQuestion number {number:02} of them."
    pool.write_text(json.dumps(records))
    monkeypatch.setattr(SamplePreparer, "prepare", preparing("number 03", unreadable))
    assert run("undisturbed", "--dataloader-workers", "0")[0] == 0
    monkeypatch.undo()
    monkeypatch.setattr(SamplePreparer, "prepare", preparing("number 03", harm))
    code, store = run("disturbed")
    assert code == 0
    assert {row: told[0] for row, told in skipped_rows(store).items()} == {3: reason}
    assert words in skipped_rows(store)[3][1]
    undisturbed = RepresentationStore(store.folder.parent.parent / "undisturbed" / "representations")
    assert vectors_of(store) == vectors_of(undisturbed)


def test_a_process_killed_once_changes_nothing(run, tmp_path, pictures, monkeypatch):
    """As by a system that is out of memory, and takes the first process that it finds."""
    code, undisturbed = run("undisturbed")
    assert code == 0

    def killed_once():
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(sample_work, "open_image", opening(str(pictures[2]), killed_once))
    code, store = run("disturbed")
    assert code == 0
    assert (tmp_path / "killed").exists()
    assert promised_files(store.folder.parent) == promised_files(undisturbed.folder.parent)


def test_one_that_is_killed_alone_as_well_does_not_fit_into_the_memory(run, pictures, monkeypatch, capsys):
    kill = opening(str(pictures[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(sample_work, "open_image", kill)
    code, store = run("failed")
    message = capsys.readouterr().err
    assert code == 1
    for word in ("2 of 2 shards failed", "row 2, 8 ready was killed", "--image-max-pixels", "--dtype", "--max-length"):
        assert word in message
    assert not store.is_published(0)
    code, store = run("skipping", "--skip-oom")
    assert code == 0
    assert {row: told[0] for row, told in skipped_rows(store).items()} == dict.fromkeys((2, 8, 14), "out_of_memory")
    monkeypatch.undo()
    assert run("failed")[0] == 0  # once there is memory the same command goes on


def fits_unless(bad, original):
    """Return what launches a batch, and runs out of memory with any sample of some number of tokens."""

    def launch(checkpoint, samples, *arguments, **options):
        if any(sample.tokens == bad for sample in samples):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(checkpoint, samples, *arguments, **options)

    return launch


def test_a_sample_too_large_for_the_device_fails_its_shard_or_is_skipped(run, pool, pictures, monkeypatch, capsys):
    records = json.loads(pool.read_text())
    records[4]["conversations"][0]["value"] += " and much more" * 9
    for item in records[:9]:
        item["image"] = str(pictures[0])  # what they begin with is shared
    pool.write_text(json.dumps(records))
    code, undisturbed = run("undisturbed")
    assert code == 0
    tokens = undisturbed.rows(0)["tokens"].to_pylist()
    assert tokens.count(tokens[4]) == 1
    monkeypatch.setattr(window, "launch_batch", fits_unless(tokens[4], window.launch_batch))
    monkeypatch.setattr(window, "launch_after_prefixes", fits_unless(tokens[4], window.launch_after_prefixes))
    code, store = run("failed")
    message = capsys.readouterr().err
    assert code == 1
    for word in ("1 of 2 shards failed", "--image-max-pixels", "--dtype", "--max-length", "--skip-oom"):
        assert word in message
    assert [store.is_published(shard) for shard in (0, 1)] == [False, True]
    code, store = run("skipping", "--skip-oom")
    assert code == 0
    assert skipped_rows(store) == {4: ("out_of_memory", "memory ran out on cpu with this sample alone")}
    rows, vectors = store.representations(0)
    assert rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    expected = np.delete(undisturbed.representations(0)[1], 4, axis=0)
    np.testing.assert_allclose(vectors, expected, atol=1e-4 * np.abs(expected).max())  # split batches: rows agree
    assert vectors_of(store)[1] == vectors_of(undisturbed)[1]


@pytest.mark.parametrize("workers", ["auto", "0"])
def test_memory_that_runs_out_while_a_row_is_made_ready(run, pictures, monkeypatch, capsys, workers):
    def full():
        raise MemoryError

    monkeypatch.setattr(sample_work, "open_image", opening(str(pictures[2]), full))
    code, _ = run("failed", "--dataloader-workers", workers)
    message = capsys.readouterr().err
    assert code == 1
    for word in ("memory ran out while row 2 was made ready", "--image-max-pixels", "--dtype", "--max-length"):
        assert word in message
    code, store = run("skipping", "--skip-oom", "--dataloader-workers", workers)
    assert code == 0
    assert {row: told[0] for row, told in skipped_rows(store).items()} == dict.fromkeys((2, 8, 14), "out_of_memory")


def test_too_many_lost_rows_end_the_run_with_the_commonest_reasons(run, pictures, monkeypatch, capsys):
    crash = opening(str(pictures[2]), os.abort)
    monkeypatch.setattr(sample_work, "open_image", crash)
    assert run("run", "--max-skipped", "5%")[0] == 1
    message = capsys.readouterr().err
    assert "3 of 18 rows" in message
    assert "preparation_crashed 3; for example row 2: its process died of SIGABRT" in message

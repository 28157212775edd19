"""Groups prepared in processes: order, errors, what arrives, and what is left behind."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from scalselect.errors import ShardError
from scalselect.prepared_groups import GroupPreparation
from scalselect.records import Reason, RowIdentity, Sample
from scalselect.vlm.batches import PreparedSample


def sample(number, pixels):
    return PreparedSample(
        inputs={
            "input_ids": torch.full((1, 3), number),
            "pixel_values": pixels,
            "half": torch.ones(2, dtype=torch.bfloat16),
            "mask": torch.tensor([True, False]),
        },
        images=(f"picture {number}",),
        instruction=torch.tensor([1]),
        vision=torch.tensor([0, 2]),
        tokens=number,
        truncated=False,
        escaped=0,
    )


def prepare(number):
    time.sleep(0.02 if number % 3 == 0 else 0)  # later ones are done sooner
    pixels = torch.full((1, 3, 100, 100), float(number))  # 120 kB
    return [sample(number, pixels), None, sample(number, pixels)], {"number": number, "process": os.getpid()}


def prepared_in_order(groups, work, processes):
    preparation = GroupPreparation(work, processes=processes, seconds=60)
    try:
        yield from preparation.results(groups)
    finally:
        preparation.close()


@pytest.mark.parametrize("processes", [0, 1, 2])
@pytest.mark.parametrize("in_memory", [True, False])
def test_results_come_in_order_and_unchanged(processes, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    found = list(prepared_in_order(range(20), prepare, processes))
    assert [facts["number"] for _, facts in found] == list(range(20))
    others = {facts["process"] for _, facts in found} - {os.getpid()}
    assert len(others) == processes
    for number, (samples, _) in enumerate(found):
        one, none, other = samples
        expected = prepare(number)[0][0]
        assert none is None
        for name, tensor in expected.inputs.items():
            assert one.inputs[name].dtype == tensor.dtype
            assert torch.equal(one.inputs[name], tensor)
            assert not one.inputs[name].is_shared()  # private memory: segments and file handles are scarce
        assert one.inputs["pixel_values"] is other.inputs["pixel_values"]  # what was shared still is
        assert one.vision.tolist() == [0, 2]
        assert one.instruction.dtype == torch.int64
        assert one.images == (f"picture {number}",)


def test_no_process_outlives_its_work():
    results = prepared_in_order(range(50), prepare, 2)
    _, facts = next(results)
    results.close()
    for _ in range(100):
        if not _is_running(facts["process"]):
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")


def _is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class OddError(Exception):
    """An exception that cannot be sent as it is."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [(KeyError("a"), KeyError, "a"), (OddError(1, 2), Exception, "OddError: 1 and 2")],
)
def test_an_error_is_raised_where_the_model_runs(error, kind, message):
    def failing(number):
        if number == 3:
            raise error
        return prepare(number)

    results = prepared_in_order(range(9), failing, 2)
    assert [next(results)[1]["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(kind, match=message):
        next(results)


class Killed:
    """Kills its process where row 4 is in the group."""

    def __init__(self, *, skip_oom):
        self.skip_oom = skip_oom

    def __call__(self, group):
        if any(one.identity.row == 4 for one in group):
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(group[0].identity.row)


def of_row(row):
    return Sample(RowIdentity(row, "pool", None, "absent"), (), (), images_in_front=False, text_sha256="")


def test_a_process_killed_again_and_again_is_a_want_of_memory_and_not_a_hang():
    for _ in range(3):  # it may be noticed in several places
        with pytest.raises(ShardError, match=r"row 4 .* --image-max-pixels"):
            list(prepared_in_order([[of_row(row)] for row in range(9)], Killed(skip_oom=False), 1))
    found = list(prepared_in_order([[of_row(row)] for row in range(9)], Killed(skip_oom=True), 1))
    [lost] = [facts.records[0] for _, facts in found if not isinstance(facts, dict)]
    assert (lost.identity.row, lost.status, lost.reason) == (4, "skipped", Reason.OUT_OF_MEMORY)
    assert [facts["number"] for _, facts in found if isinstance(facts, dict)] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    list(prepared_in_order(range(2), prepare, 1))
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    list(prepared_in_order(range(2), prepare, 1))
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_no_process_outlives_one_that_is_killed():
    def consume(pipe):
        results = prepared_in_order(range(500), prepare, 2)
        pipe.send(next(results)[1]["process"])
        time.sleep(60)  # the processes fill their queues and wait to hand over

    here, there = multiprocessing.get_context("fork").Pipe()
    consumer = multiprocessing.get_context("fork").Process(target=consume, args=(there,))
    consumer.start()
    process = here.recv()
    assert _is_running(process)
    time.sleep(1)
    consumer.kill()
    consumer.join()
    for _ in range(100):
        if not _is_running(process):
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    pytest.fail("the process waits for ever")


class Interrupted(Exception):  # noqa: N818  control flow, not an error
    """What the handler of a signal raises here."""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_processes_are_started_or_ended_waits_for_that(sent):
    def interrupt(*_):
        raise Interrupted

    def at_fork():
        if armed:
            armed.pop()
            signal.raise_signal(sent)

    # Python ignores what such a function raises: without holding signals back this one would be lost.
    armed = [True]
    os.register_at_fork(before=at_fork)
    before = signal.signal(sent, interrupt)
    try:
        with pytest.raises(Interrupted):
            list(prepared_in_order(range(9), prepare, 2))
        assert not armed
        assert signal.getsignal(sent) is interrupt
    finally:
        signal.signal(sent, before)
    assert multiprocessing.active_children() == []

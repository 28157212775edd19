"""The test that `test_sample_memory` runs in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scalselect.config import RepresentConfig
from scalselect.dataset.opening import open_pool
from scalselect.errors import ShardError
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm import window
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.settings import resolve_settings, torch_threads
from small_pools import write_pool
from tiny_llava import build_llava

pytestmark = pytest.mark.slow

MIB = 2**20
_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
FITS, TOO_LARGE, OTHER = 0, 1, 2
SHAPE = {"image_size": 168, "text_hidden": 1024, "text_heads": 16, "vision_hidden": 64, "vision_heads": 4}


def within(mebibytes):
    """Return what launches a batch, and while it does so may take so much memory more than at the first time."""
    original, limits = window.launch_batch, []

    def launch(*arguments, **options):
        if not limits:
            now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
            limits.append(now + mebibytes * MIB)
        resource.setrlimit(resource.RLIMIT_AS, (limits[0], resource.RLIM_INFINITY))
        try:
            return original(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return launch


def test_a_batch_is_halved_and_a_sample_fails_its_shard_or_is_skipped(tmp_path, pictures):
    # What a tensor takes is given back when it is gone, so that no memory taken before the limit helps.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**16)
    model = build_llava(tmp_path / "model", texts=["What shape is it?"], **SHAPE)
    config = RepresentConfig(device="cpu", threads=1, dataloader_workers=0, image_reuse="off")
    settings = resolve_settings(config, str(model), None)
    checkpoint = load_checkpoint(str(model), config, settings)
    data = write_pool(tmp_path, pictures, rows=12)
    records = json.loads(data.read_text())
    records[4]["conversations"][0]["value"] += " What shape is it?" * 200
    long_one = tmp_path / "long.json"
    long_one.write_text(json.dumps(records))

    def work_in(place, path, **options):
        store = RepresentationStore(tmp_path / place)
        return ShardWork(open_pool(path), checkpoint, store, replace(config, **options), settings, {})

    def represent(place, path, mebibytes, **options):
        """Represent data in a fork, with a limit on its memory; return how that ended."""
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = OTHER
        try:
            signal.alarm(60)
            torch.set_num_threads(1)  # those that OpenMP had before the fork are not here
            window.launch_batch = within(mebibytes)
            work_in(place, path, **options)(0)
            code = FITS
        except ShardError as error:
            code = TOO_LARGE if "--image-max-pixels" in str(error) and "--dtype" in str(error) else OTHER
        finally:
            os._exit(code)

    whole = work_in("whole", data)
    with torch_threads(1):  # as in the forks, so that whatever is loaded or set up late is there by now
        assert whole(0).split_batches == 0
    expected = whole.store.representations(0)[1]
    # What libraries keep of what they took before differs: the limit at which a batch is too large and a sample is not
    # is looked for.
    outcomes = {
        mebibytes: represent(f"halved-{mebibytes}", data, mebibytes) for mebibytes in (0, 1, 2, 4, 6, 8, 12, 16)
    }
    halves = [
        RepresentationStore(tmp_path / f"halved-{mebibytes}") for mebibytes in outcomes if not outcomes[mebibytes]
    ]
    halved = max(halves, key=lambda store: store.report(0).split_batches)
    assert halved.report(0).split_batches > 0, outcomes
    np.testing.assert_allclose(halved.representations(0)[1], expected, atol=1e-4 * np.abs(expected).max())
    assert represent("roomy", long_one, 4000) == FITS
    assert RepresentationStore(tmp_path / "roomy").report(0).split_batches == 0
    assert represent("failed", long_one, 0) == TOO_LARGE
    assert not RepresentationStore(tmp_path / "failed").is_published(0)
    assert represent("skipping", long_one, 0, skip_oom=True) == FITS
    skipping = RepresentationStore(tmp_path / "skipping")
    reasons = skipping.rows(0)["reason"].to_pylist()
    assert reasons[4] == "out_of_memory"  # others may have been left too little as well
    assert set(reasons) == {None, "out_of_memory"}

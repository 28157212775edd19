"""Memory that really runs out: a limit of the system on a process that has loaded its model already."""

import os
import resource
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from scalselect.config import RepresentConfig
from scalselect.dataset.opening import open_pool
from scalselect.engines.processes import can_fork
from scalselect.errors import ShardError
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.settings import resolve_settings
from small_pools import write_pool
from tiny_llava import build_llava

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_fork, reason="limits and forks as Linux has them")]

MB = 2**20
FITS, TOO_LARGE, OTHER = 0, 1, 2


def test_a_batch_that_does_not_fit_is_halved_and_a_sample_that_does_not_fails_with_advice(tmp_path, pictures):
    shape = {"image_size": 168, "text_hidden": 1024, "text_heads": 16, "vision_hidden": 64, "vision_heads": 4}
    model = build_llava(tmp_path / "model", texts=["What shape is it?"], **shape)
    config = RepresentConfig(device="cpu", threads=1, dataloader_workers=0, image_reuse="off")
    settings = resolve_settings(config, str(model), None)
    checkpoint = load_checkpoint(str(model), config, settings)
    pool = open_pool(write_pool(tmp_path, pictures, rows=12))

    def represent(place, megabytes):
        """Represent the pool in a fork that may take some memory more than it has; return how that ended."""
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = OTHER
        try:
            torch.set_num_threads(1)
            store = RepresentationStore(tmp_path / place)
            work = ShardWork(pool, checkpoint, store, config, settings, {})
            if megabytes is not None:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + megabytes * MB
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            work(0)
            code = FITS
        except ShardError as error:
            code = TOO_LARGE if "--image-max-pixels" in str(error) and "--dtype" in str(error) else OTHER
        except BaseException:  # noqa: BLE001  told by the exit code
            traceback.print_exc()  # too little for anything else
        finally:
            os._exit(code)

    assert represent("whole", None) == FITS
    whole = RepresentationStore(tmp_path / "whole")
    assert whole.report(0).split_batches == 0
    codes, split = [], []
    for megabytes in (2, 8, 16, 24, 40, 512):
        codes.append(represent(str(megabytes), megabytes))
        if codes[-1] == FITS:
            store = RepresentationStore(tmp_path / str(megabytes))
            split.append(store.report(0).split_batches)
            expected = whole.representations(0)[1]
            found = store.representations(0)[1]
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert TOO_LARGE in codes, codes
    assert codes[-1] == FITS
    assert max(split) > 0, (codes, split)
    assert split[-1] == 0

"""Prepared samples as they travel: arrays in place of tensors, and nothing changed on arrival."""

import os

import numpy as np
import pytest
import torch

from scalselect.vlm.batches import PreparedSample
from scalselect.vlm.loader import PackedPreparation, arrived, quiet_fork


def sample(pixels):
    return PreparedSample(
        inputs={
            "input_ids": torch.arange(3)[None],
            "pixel_values": pixels,
            "half": torch.ones(2, dtype=torch.bfloat16),
            "mask": torch.tensor([True, False]),
        },
        images=("picture",),
        instruction=torch.tensor([1]),
        vision=torch.tensor([0, 2]),
        tokens=3,
        truncated=False,
        escaped=0,
    )


def test_tensors_travel_as_arrays_and_what_is_shared_stays_shared():
    pixels = torch.rand(1, 3, 10, 10)
    samples = [sample(pixels), None, sample(pixels)]
    packed, facts = PackedPreparation(lambda group: (samples, group))("facts")
    assert facts == "facts"
    assert {name: type(value) for name, value in packed[0].inputs.items()} == {
        "input_ids": np.ndarray,
        "pixel_values": np.ndarray,
        "half": torch.Tensor,  # numpy has no such type
        "mask": np.ndarray,
    }
    assert packed[0].inputs["pixel_values"] is packed[2].inputs["pixel_values"]
    found = arrived(packed)
    assert found[1] is None
    assert found[0].inputs["pixel_values"] is found[2].inputs["pixel_values"]
    for name, tensor in samples[0].inputs.items():
        assert found[0].inputs[name].dtype == tensor.dtype
        assert torch.equal(found[0].inputs[name], tensor)
    assert found[0].vision.tolist() == [0, 2]
    assert found[0].instruction.dtype == torch.int64


@pytest.mark.parametrize("before", [None, "true"])
def test_the_environment_is_left_as_it_was(monkeypatch, before):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if before is not None:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    with quiet_fork():
        assert os.environ["TOKENIZERS_PARALLELISM"] == (before or "false")
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before

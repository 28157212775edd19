"""A model that mixes the samples of a batch is found out, and its samples run one by one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from test_families import prepare

from conversations import as_samples, sample_conversations
from families import FAMILIES
from scalselect.config import RepresentConfig
from scalselect.vlm.batch_independence import frequencies_depend_on_length
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.representation import Pooling, represent_samples

MIXING = [name for name, family in FAMILIES.items() if not family.batches]


@pytest.mark.parametrize("family", MIXING)
def test_samples_of_a_mixing_model_run_one_by_one(loaded, pictures, family):
    checkpoint = loaded(family)
    prepared = prepare(checkpoint, as_samples(sample_conversations(), pictures))[:3]
    alone = [represent_samples(checkpoint, [sample], Pooling())[0][0].vector for sample in prepared]
    mixed = [row.vector for row in represent_samples(checkpoint, prepared, Pooling())[0]]
    assert not np.allclose(mixed, alone, rtol=1e-3, atol=1e-3)  # so the rehearsal has something to find
    found = [row.vector for row in represent_samples(rehearse(checkpoint, RepresentConfig()), prepared, Pooling())[0]]
    assert np.array_equal(found, alone)


@pytest.mark.parametrize("family", MIXING)
def test_a_mixing_model_is_found_out_in_half_precision(loaded, family):
    assert not rehearse(loaded(family, dtype="bfloat16"), RepresentConfig()).batches


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_samples_of_other_models_share_batches(loaded, family, dtype):
    assert rehearse(loaded(family, dtype=dtype), RepresentConfig()).batches


def test_a_model_that_refuses_a_batch_is_given_single_samples(loaded):
    checkpoint = loaded("llava")

    class Single:
        model = checkpoint.first_layer.model

        def __call__(self, inputs, instruction, prefix_lengths=None):
            if len(instruction) > 1:
                raise ValueError("one at a time")
            return checkpoint.first_layer(inputs, instruction, prefix_lengths)

    assert not rehearse(dataclasses.replace(checkpoint, first_layer=Single()), RepresentConfig()).batches


@pytest.mark.parametrize(
    ("rope", "independent"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, True),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, False),
        ({"full_attention": {"rope_type": "longrope"}, "sliding_attention": {"rope_type": "default"}}, False),
        (None, True),
    ],
)
def test_frequencies_that_follow_the_longest_sequence_are_found_in_the_configuration(rope, independent):
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(rope_parameters=rope))
    assert frequencies_depend_on_length(config) == (not independent)


def test_such_a_model_runs_samples_one_by_one_and_shares_no_beginning(loaded):
    checkpoint = loaded("llava")
    text = checkpoint.first_layer.model.config.get_text_config()
    before = text.rope_parameters
    assert rehearse(checkpoint, RepresentConfig()).batches
    text.rope_parameters = {**before, "rope_type": "dynamic", "factor": 2.0}
    try:
        found = rehearse(checkpoint, RepresentConfig())
    finally:
        text.rope_parameters = before
    assert not found.batches
    assert not found.shares_prefixes

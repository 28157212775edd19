from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalselect.vlm import attention_pooling
from scalselect.vlm.attention_pooling import all_tokens, mean_of_rows


def attended_tokens(attention, mass):
    """One sample alone, as positions."""
    found = attention_pooling.attended_tokens(attention[None], torch.ones(1, len(attention), dtype=torch.bool), mass)
    return SimpleNamespace(
        kept=found.kept[0].nonzero()[:, 0], cut_margin=float(found.cut_margin), uniform=bool(found.uniform)
    )


def plainly(attention, mass):
    """The definition, word by word."""
    a = np.asarray(attention, dtype=np.float64)
    p = a / a.sum() if a.sum() > 0 else np.full(len(a), 1 / len(a))
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))
    total, kept = 0.0, []
    for i in order:
        kept.append(i)
        total += p[i]
        if total > mass:
            break
    return sorted(kept)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([0.3, 0.5, 0.9, 0.99]))
def test_kept_set_follows_the_definition(counts, mass):
    # Multiples of 2^-10 whose sum is padded to a power of two: every cumulative mass is exact on both roads.
    counts = [*counts, 4096 - sum(counts)]
    found = attended_tokens(torch.tensor(counts, dtype=torch.float32) / 1024, mass)
    assert found.kept.tolist() == plainly(counts, mass)
    assert not found.uniform


def test_a_prefix_that_just_reaches_the_mass_is_not_enough():
    attention = torch.tensor([0.5, 0.25, 0.125, 0.125])
    assert attended_tokens(attention, 0.75).kept.tolist() == [0, 1, 2]
    assert attended_tokens(attention, 0.7499).kept.tolist() == [0, 1]
    assert attended_tokens(attention, 0.75).cut_margin == 0


def test_ties_go_to_the_lower_position():
    assert attended_tokens(torch.tensor([0.25, 0.25, 0.25, 0.25]), 0.4).kept.tolist() == [0, 1]


@pytest.mark.parametrize("attention", [[0.0, 0.0, 0.0, 0.0], [0.0]])
def test_no_attention_is_uniform(attention):
    found = attended_tokens(torch.tensor(attention), 0.6)
    assert found.uniform
    assert found.kept.tolist() == list(range(3 if len(attention) == 4 else 1))


def test_equal_shares_are_as_exact_as_float64():
    # 27 of 30 equal shares sum to 0.9 in float64; shares rounded to float32 would exceed it.
    assert len(attended_tokens(torch.zeros(30), 0.9).kept) == 28


def test_one_token_is_always_kept():
    assert attended_tokens(torch.tensor([1.0, 0.0]), 0.001).kept.tolist() == [0]


def test_all_tokens_are_kept_where_the_mass_is_never_exceeded():
    assert attended_tokens(torch.ones(8), 0.9999999999).kept.tolist() == list(range(8))


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=30), min_size=2, max_size=5))
def test_samples_of_one_batch_do_not_see_each_other(rows):
    longest = max(map(len, rows))
    attention = torch.full((len(rows), longest), 7.0)  # padding that would count if it were looked at
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        attention[i, : len(row)] = torch.tensor(row)
        valid[i, : len(row)] = True
    found = attention_pooling.attended_tokens(attention, valid, 0.9)
    for i, row in enumerate(rows):
        alone = attended_tokens(torch.tensor(row, dtype=torch.float32), 0.9)
        assert found.kept[i].nonzero()[:, 0].tolist() == alone.kept.tolist()
        assert found.uniform[i] == alone.uniform
        assert float(found.cut_margin[i]) == pytest.approx(alone.cut_margin, abs=1e-12)


def test_all_tokens_are_those_that_are_no_padding():
    valid = torch.tensor([[True, True, False], [True, True, True]])
    found = all_tokens(valid)
    assert torch.equal(found.kept, valid)
    assert found.cut_margin.isnan().all()
    assert not found.uniform.any()


def test_mean_is_plain_and_float32():
    hidden = torch.arange(12, dtype=torch.bfloat16).reshape(4, 3)
    mean = mean_of_rows(hidden, torch.tensor([False, True, False, True]))
    assert mean.dtype == torch.float32
    assert mean.tolist() == [6.0, 7.0, 8.0]


def test_what_is_not_kept_has_no_say_in_the_mean():
    hidden = torch.tensor([[1.0, 2.0], [torch.inf, torch.nan]])
    assert mean_of_rows(hidden, torch.tensor([True, False])).tolist() == [1.0, 2.0]

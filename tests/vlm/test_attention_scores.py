"""Capped scores and sinks: probabilities and outputs equal those of transformers' eager attention."""

from types import SimpleNamespace

import pytest
import torch
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss

from scalselect.vlm import attention_scores
from scalselect.vlm.attention_scores import ScoreRule, attention_output, probabilities

HEADS, KEY_HEADS, LENGTH, WIDTH = 6, 2, 20, 8
RULES = {"plain": {}, "softcap": {"softcap": 1.5}, "sinks": {"sinks": torch.linspace(-1.0, 2.0, HEADS)}}
LOWEST = torch.finfo(torch.float32).min


@pytest.fixture
def qkv():
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, HEADS, LENGTH, WIDTH), (2, KEY_HEADS, LENGTH, WIDTH), (2, KEY_HEADS, LENGTH, WIDTH)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def causal_mask():
    """Boolean [2, 1, sequence, sequence]; the second sample has two tokens of left padding."""
    mask = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    mask[1, :, :, :2] = False
    return mask


def eager(qkv, mask, scale, softcap=None, sinks=None):
    additive = torch.zeros(mask.shape).masked_fill(~mask, LOWEST)
    module = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, training=False, sinks=sinks)
    if sinks is not None:
        return modeling_gpt_oss.eager_attention_forward(module, *qkv, additive, scaling=scale)
    return modeling_gemma2.eager_attention_forward(module, *qkv, additive, scaling=scale, softcap=softcap)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("masked", ["boolean", "additive", "none"])
@pytest.mark.parametrize("step", [1, 7, LENGTH])
def test_output_is_that_of_eager_attention_in_pieces_of_any_size(qkv, kind, masked, step):
    mask = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril() if masked == "none" else causal_mask()
    given = {
        "boolean": mask,
        "additive": torch.zeros(mask.shape).masked_fill(~mask, LOWEST),
        "none": None,
    }[masked]
    expected, _ = eager(qkv, mask, 0.7, **RULES[kind])
    found = attention_output(*qkv, given, ScoreRule(0.7, **RULES[kind]), score_bytes=4 * HEADS * LENGTH * step)
    real = mask.any(dim=-1).expand(2, 1, LENGTH)[:, 0]  # rows of padding see nothing and mean nothing
    assert found.isfinite().all()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", RULES)
def test_rows_are_those_of_eager_attention(qkv, kind):
    query, key, _ = qkv
    rows = torch.tensor([3, 4, 15, 19])
    _, expected = eager(qkv, causal_mask(), 0.7, **RULES[kind])  # [batch, heads, sequence, sequence]
    for i in range(2):
        found = probabilities(query[i], key[i].transpose(1, 2), causal_mask()[i], rows, ScoreRule(0.7, **RULES[kind]))
        torch.testing.assert_close(found, expected[i][:, rows], rtol=1e-5, atol=1e-7)
        assert (found[:, :, i * 2 :].sum(-1) < 0.99).any() == (kind == "sinks")


def test_cap_and_sinks_make_a_difference(qkv):
    plain, *others = (
        attention_output(*qkv, None, ScoreRule(0.7, **rule), score_bytes=10**6) for rule in RULES.values()
    )
    assert all((other - plain).abs().max() > 0.1 for other in others)


def test_where_nothing_is_hidden_later_positions_are_seen(qkv):
    found = attention_output(*qkv, None, ScoreRule(0.7, softcap=1.5, causal=False), score_bytes=10**6)
    expected, _ = eager(qkv, torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool), 0.7, softcap=1.5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_never_more_scores_than_allowed_are_formed(qkv, monkeypatch):
    formed, original = [], attention_scores.probabilities
    monkeypatch.setattr(attention_scores, "probabilities", lambda *given: formed.append(original(*given)) or formed[-1])
    allowed = 4 * HEADS * LENGTH * 3
    attention_output(*qkv, None, ScoreRule(0.7, softcap=1.5), score_bytes=allowed)
    assert max(scores.nbytes for scores in formed) == allowed
    assert sum(scores.shape[1] for scores in formed) == 2 * LENGTH


@pytest.mark.parametrize("kind", RULES)
def test_half_precision_is_rounded_at_the_end_alone(qkv, kind):
    rounded = [x.to(torch.bfloat16) for x in qkv]
    found = attention_output(*rounded, None, ScoreRule(0.7, **RULES[kind]), score_bytes=10**6)
    exact = attention_output(*(x.float() for x in rounded), None, ScoreRule(0.7, **RULES[kind]), score_bytes=10**6)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=1e-2, atol=1e-2)

import pytest
import torch
from torch import nn

from scalselect.errors import ModelError
from scalselect.vlm import attention_capture
from scalselect.vlm.attention_capture import _instruction_attention
from scalselect.vlm.attention_scores import ScoreRule
from scalselect.vlm.first_layer import FirstLayer


def plain_attention(query, key, mask, rows, scale):
    """Full [heads, sequence, sequence] softmax in float64, then the wanted rows."""
    heads, length, _ = query.shape
    key = key.repeat_interleave(heads // key.shape[0], dim=0)
    scores = query.double() @ key.double().transpose(1, 2) * scale
    if mask is None:
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    elif mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    else:
        scores = scores + mask.double()
    return torch.softmax(scores, -1)[:, rows].mean(dim=0).sum(dim=0)


@pytest.fixture
def qk():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 20, 8, generator=generator), torch.randn(2, 20, 8, generator=generator)


@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
@pytest.mark.parametrize("pieces", [1, 7])
def test_instruction_rows_equal_those_of_the_full_softmax(qk, kind, pieces, monkeypatch):
    query, key = qk
    rows = torch.tensor([3, 4, 9, 10, 11, 15, 19])
    causal = torch.ones(20, 20, dtype=torch.bool).tril()
    causal[:, :2] = False  # left padding
    mask = {
        "none": None,
        "boolean": causal[None],
        "additive": torch.zeros(1, 20, 20).masked_fill(~causal, torch.finfo(torch.float32).min),
    }[kind]
    monkeypatch.setattr(attention_capture, "_SCORE_BYTES", 4 * 6 * 20 * (7 // pieces))
    found = _instruction_attention(query, key, mask, rows, ScoreRule(0.3))
    torch.testing.assert_close(found.double(), plain_attention(query, key, mask, rows, 0.3), rtol=1e-5, atol=1e-7)


def test_half_precision_scores_are_computed_in_float32(qk):
    query, key = (x.to(torch.bfloat16) for x in qk)
    rows = torch.tensor([5, 19])
    found = _instruction_attention(query, key, None, rows, ScoreRule(0.3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain_attention(query, key, None, rows, 0.3), rtol=1e-5, atol=1e-7)


def test_no_instruction_gives_zeros(qk):
    assert _instruction_attention(*qk, None, torch.tensor([], dtype=torch.int64), ScoreRule(1.0)).abs().sum() == 0


class Decoder(nn.Module):
    """A decoder whose first layer calls its attention `calls` times, with the arguments it is given."""

    def __init__(self, calls, **arguments):
        super().__init__()
        layer = nn.Module()
        layer.self_attn = nn.Module()
        layer.self_attn.is_causal = True
        layer.forward = lambda x: self.layer_output(layer, x)
        self.layers = nn.ModuleList([layer])
        self.calls, self.arguments = calls, arguments

    def layer_output(self, layer, x):
        q = x[:, None]
        for _ in range(self.calls):
            attention_capture._attention_forward(layer.self_attn, q, q, q, None, **self.arguments)
        return x

    def get_decoder(self):
        return self

    def forward(self, inputs_embeds, use_cache):
        assert use_cache is False
        return self.layers[0](inputs_embeds)


INPUTS = {"inputs_embeds": torch.randn(1, 5, 4)}
ROWS = [torch.tensor([4])]


def test_output_is_that_of_the_layer():
    output = FirstLayer(Decoder(1))(INPUTS, ROWS)
    assert torch.equal(output.hidden, INPUTS["inputs_embeds"])
    assert output.attention[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("calls", [0, 2])
def test_attention_must_run_exactly_once(calls):
    with pytest.raises(ModelError, match=f"ran {calls} times"):
        FirstLayer(Decoder(calls))(INPUTS, ROWS)


@pytest.mark.parametrize(
    "argument", [{"position_bias": torch.zeros(1)}, {"labels": 1}, {"something_new": False}, {"dropout": 0.1}]
)
def test_an_argument_that_is_not_understood_is_refused_not_dropped(argument):
    name = next(iter(argument))
    with pytest.raises(ModelError, match=f"the decoder's attention uses `{name}`, which is not supported: "):
        FirstLayer(Decoder(1, **argument))(INPUTS, ROWS)


def test_sinks_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"`s_aux`.*\[3\] for 1 heads"):
        FirstLayer(Decoder(1, s_aux=torch.zeros(3)))(INPUTS, ROWS)


def test_without_a_mask_a_module_that_is_not_causal_sees_what_comes_later():
    model = Decoder(1)
    first = [torch.tensor([0])]
    assert FirstLayer(model)(INPUTS, first).attention[0].tolist() == [1, 0, 0, 0, 0]
    assert (FirstLayer(Decoder(1, is_causal=False))(INPUTS, first).attention[0] > 0).all()
    model.layers[0].self_attn.is_causal = False
    assert (FirstLayer(model)(INPUTS, first).attention[0] > 0).all()


def test_arguments_that_change_nothing_are_let_through():
    FirstLayer(Decoder(1, sliding_window=4, position_ids=torch.arange(5), softcap=None))(INPUTS, ROWS)


def test_a_decoder_without_readable_attention_is_refused():
    model = Decoder(1)
    del model.layers[0].self_attn
    with pytest.raises(ModelError, match=r"layers\[0\]\.self_attn"):
        FirstLayer(model)


def test_a_pass_leaves_no_hook_and_no_capture_behind():
    model = Decoder(2)
    with pytest.raises(ModelError):
        FirstLayer(model)(INPUTS, ROWS)
    assert not model.layers[0]._forward_hooks
    assert model.layers[0].self_attn not in attention_capture.active

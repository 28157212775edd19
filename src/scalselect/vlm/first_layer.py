"""Hidden states and instruction-to-vision attention of one decoder layer (the first by default), nothing after it.

The model's own forward pass runs; two things are added. An attention function registered with transformers computes,
in the wanted layer only, the softmax of the instruction rows, averaged over heads and rows, and then hands on to
SDPA. A hook takes the output of that layer and ends the pass there: what follows in the model (final norm, further
layers, and unless asked for the DeepStack features added to the hidden state) never runs. See the method, stage 1.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTENTION_NAME = "scalselect_first_layer"
_SCORE_BYTES = 256 * 2**20  # at most this much float32 attention [heads, rows, sequence] at a time
# Arguments of the attention call that are already in the mask, or change nothing in a single forward pass.
_ACCOUNTED_FOR = frozenset(
    {
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "sliding_window",
        "use_cache",
    }
)


@dataclass(slots=True, eq=False)
class _Capture:
    """What one forward pass is asked for, and what it found."""

    instruction: list[Tensor]
    attention: list[Tensor] = field(default_factory=list)
    calls: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayerOutput:
    """Output of one batch.

    Attributes
    ----------
    hidden
        Output of the decoder layer, model dtype [batch, sequence, hidden].
    attention
        For each sample the attention of its instruction tokens, mean over query heads and instruction tokens,
        float32 [sequence]; zeros for a sample without instruction tokens.
    """

    hidden: Tensor
    attention: list[Tensor]


class _PassEnds(Exception):  # noqa: N818  control flow, not an error
    """Carries the output of the layer out of the model's forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


_active: WeakKeyDictionary[nn.Module, _Capture] = WeakKeyDictionary()


class FirstLayer:
    """A vision-language model, run up to and including one decoder layer: the first, unless another is wanted.

    Parameters
    ----------
    model
        A transformers model whose text config's attention implementation is `ATTENTION_NAME`.
    layer
        Number of the decoder layer, from 0.
    deepstack
        `exclude` takes the layer's own output; `include` the hidden state that the model hands on, with the vision
        features that Qwen3-VL adds after its first layers.

    Raises
    ------
    ModelError
        If no decoder layer with a self-attention module can be found.
    """

    def __init__(self, model: Any, *, layer: int = 0, deepstack: str = "exclude") -> None:
        self._model = model
        decoder = model.get_decoder()
        layers = list(getattr(decoder, "layers", None) or [])
        attention = getattr(layers[layer], "self_attn", None) if layer < len(layers) else None
        if attention is None:
            raise ModelError(
                f"the decoder of {type(model).__name__} has no `layers[{layer}].self_attn`, so the attention of this "
                "layer cannot be read: choose a model whose language model is a plain softmax-attention decoder"
            )
        self._number = layer
        self._layer: nn.Module = layers[layer]
        self._attention: nn.Module = attention
        # Where the model takes up the hidden state that it hands on after the layer.
        self._next: nn.Module | None = None
        if deepstack == "include":
            self._next = layers[layer + 1] if layer + 1 < len(layers) else decoder.norm

    @property
    def model(self) -> Any:
        """The model that is run."""
        return self._model

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Tensor], instruction: list[Tensor]) -> FirstLayerOutput:
        """Run one padded batch.

        Parameters
        ----------
        inputs
            The processor's tensors, `input_ids` and `attention_mask` [batch, sequence] among them.
        instruction
            For each sample the positions of its instruction tokens in the padded sequence, int64 [instruction].

        Raises
        ------
        ModelError
            If the attention of the layer did not run exactly once, or was given an argument that is not understood.
        """
        capture = _Capture(instruction)
        with self._pass_ends_after_layer():
            _active[self._attention] = capture
            try:
                self._model(**inputs, use_cache=False)
            except _PassEnds as ended:
                hidden = ended.hidden
            else:
                raise ModelError(f"{type(self._model).__name__} did not run its decoder layer {self._number}")
            finally:
                del _active[self._attention]
        if capture.calls != 1:
            raise ModelError(
                f"the attention of decoder layer {self._number} of {type(self._model).__name__} ran {capture.calls} "
                "times through the registered function; exactly once was expected"
            )
        return FirstLayerOutput(hidden, capture.attention)

    @contextlib.contextmanager
    def _pass_ends_after_layer(self) -> Iterator[None]:
        def end_after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            raise _PassEnds(output[0] if isinstance(output, tuple) else output)

        def end_before(_module: nn.Module, inputs: Any) -> None:
            raise _PassEnds(inputs[0])

        if self._next is None:
            handle = self._layer.register_forward_hook(end_after)
        else:
            handle = self._next.register_forward_pre_hook(end_before)
        try:
            yield
        finally:
            handle.remove()


def _attention_forward(  # noqa: PLR0917  the signature that transformers calls
    module: nn.Module,
    query: Tensor,  # [batch, heads, sequence, head]
    key: Tensor,  # [batch, key heads, sequence, head]
    value: Tensor,  # [batch, key heads, sequence, head]
    attention_mask: Tensor | None,  # [batch or 1, 1, sequence, sequence], boolean or additive
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    # In every layer that runs: SDPA would leave out what it does not know without a word.
    for name, argument in kwargs.items():
        if name not in _ACCOUNTED_FOR and argument is not None:
            raise ModelError(f"the decoder's attention uses `{name}`, which is not supported: {argument!r:.60}")
    capture = _active.get(module)
    if capture is not None:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        for i, rows in enumerate(capture.instruction):
            mask = None if attention_mask is None else attention_mask[i if attention_mask.shape[0] > 1 else 0]
            capture.attention.append(_instruction_attention(query[i], key[i], mask, rows.to(query.device), scale))
        capture.calls += 1
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return output, None


def _instruction_attention(query: Tensor, key: Tensor, mask: Tensor | None, rows: Tensor, scale: float) -> Tensor:
    """Mean over heads and `rows` of the attention probabilities of one sample, float32 [sequence].

    Only the rows of instruction tokens are ever formed: [heads, rows, sequence] in pieces, never [sequence, sequence].
    """
    heads, length, width = query.shape
    key_heads = key.shape[0]
    keys = key.to(torch.float32).transpose(1, 2)  # [key heads, head, sequence]
    mean = torch.zeros(length, dtype=torch.float32, device=query.device)
    step = max(1, _SCORE_BYTES // (4 * heads * length))
    for some in torch.split(rows, step):
        queries = query.index_select(1, some).to(torch.float32)  # [heads, rows, head]
        grouped = queries.reshape(key_heads, -1, width)  # [key heads, heads per key head * rows, head]
        scores = torch.matmul(grouped, keys).reshape(heads, len(some), length) * scale  # [heads, rows, sequence]
        scores = _masked(scores, mask, some)
        mean += torch.softmax(scores, dim=-1).sum(dim=(0, 1))
    return mean / (heads * max(1, len(rows)))


def _masked(scores: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor:
    if mask is None:  # transformers leaves the mask out where it is purely causal
        later = torch.arange(scores.shape[-1], device=scores.device) > rows[:, None]  # [rows, sequence]
        return scores.masked_fill(later, -torch.inf)
    chosen = mask.index_select(-2, rows)  # [1, rows, sequence]
    if chosen.dtype == torch.bool:
        return scores.masked_fill(~chosen, -torch.inf)
    return scores + chosen.to(torch.float32)


AttentionInterface.register(ATTENTION_NAME, _attention_forward)
# Without a mask function of the same name transformers passes no mask at all, and padding would be attended to.
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)

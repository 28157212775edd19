"""Hidden states and instruction-to-vision attention of one decoder layer (the first by default), nothing after it.

The model's own forward pass runs; two things are added. Its attention function keeps what the method reads (see
`attention_capture`). A hook takes the output of the wanted layer and ends the pass there: what follows in the model
(final norm, further layers, and unless asked for the DeepStack features added to the hidden state) never runs. See the
method, stage 1. Sequences that begin alike need their beginning once: it is handed out as a `Prefix`, and the tokens
behind it run by themselves.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scalselect.errors import ModelError
from scalselect.vlm.attention_capture import Continuation, PassEnds, Prefix, WholePass, active
from scalselect.vlm.device_memory import positions_on_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# What a decoder may be called with and still go on behind a prefix: anything else would have to be given again.
_GIVEN_AGAIN = frozenset({"input_ids", "inputs_embeds", "position_ids", "attention_mask", "use_cache"})
_WITHOUT_EFFECT = frozenset(
    # DeepStack features are added behind the layer, at vision tokens alone.
    {"past_key_values", "cache_position", "return_dict", "visual_pos_masks", "deepstack_visual_embeds"}
    | {"logits_to_keep", "output_attentions", "output_hidden_states", "output_router_logits"}
)


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
    prefixes
        For each sample the prefix that was asked for; None where none was, or where nothing can go on behind it.
    """

    hidden: Tensor
    attention: list[Tensor]
    prefixes: list[Prefix | None]


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
        decoder = decoder_of(model)
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
    def __call__(
        self, inputs: dict[str, Tensor], instruction: Sequence[Tensor], prefix_lengths: Sequence[int] | None = None
    ) -> FirstLayerOutput:
        """Run one padded batch.

        Parameters
        ----------
        inputs
            The processor's tensors, `input_ids` and `attention_mask` [batch, sequence] among them.
        instruction
            For each sample the positions of its instruction tokens in the padded sequence, ascending, on the CPU,
            int64 [instruction].
        prefix_lengths
            For each sample how many of its first tokens are wanted as a `Prefix`, 0 for none; padding must be on the
            right then. None where none is wanted.

        Raises
        ------
        ModelError
            If the attention of the layer did not run exactly once, or was given an argument that is not understood.
        """
        lengths = [0] * len(instruction) if prefix_lengths is None else prefix_lengths
        inside = [int((rows < length).sum()) for rows, length in zip(instruction, lengths, strict=True)]
        whole = WholePass(positions_on_device(instruction, next(iter(inputs.values())).device), lengths, inside)
        with self._decoder_call_seen(wanted=any(lengths)) as call:
            hidden = self._run(whole, lambda: self._model(**inputs, use_cache=False))
        if hidden is None:
            raise ModelError(f"{type(self._model).__name__} did not run its decoder layer {self._number}")
        unknown = {name for name, value in call.items() if value is not None} - _GIVEN_AGAIN - _WITHOUT_EFFECT
        prefixes: list[Prefix | None] = [None] * len(instruction)
        if any(lengths) and not unknown:
            prefixes = whole.prefixes(hidden, call.get("position_ids"))
        return FirstLayerOutput(hidden, whole.attention, prefixes)

    @torch.inference_mode()
    def after_prefixes(
        self, input_ids: Tensor, prefixes: Sequence[Prefix], instruction: Sequence[Tensor], *, wants_hidden: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """Run the tokens behind known prefixes: texts under a causal mask.

        Parameters
        ----------
        input_ids
            Tokens behind the prefix, padded on the right with any token, int64 [batch, suffix].
        prefixes
            What comes before them, one for each sample.
        instruction
            For each sample the positions of its instruction tokens behind the prefix, on the CPU, int64 [instruction];
            those inside are part of the prefix.
        wants_hidden
            Whether the layer's output is wanted as well, or only its attention.

        Returns
        -------
        list of Tensor
            For each sample the attention of its instruction tokens to the tokens of its prefix, mean over query heads
            and instruction tokens, float32 [prefix].
        Tensor or None
            Output of the layer behind the prefixes, [batch, suffix, hidden].

        Raises
        ------
        ModelError
            If the attention of the layer did not run exactly once, or was given an argument that is not understood.
        """
        continuation = Continuation(positions_on_device(instruction, input_ids.device), prefixes, wants_hidden)
        embeddings = self._model.get_input_embeddings()(input_ids)  # [batch, suffix, hidden]
        positions = _positions_behind(prefixes, input_ids)
        decoder = decoder_of(self._model)
        hidden = self._run(
            continuation, lambda: decoder(inputs_embeds=embeddings, position_ids=positions, use_cache=False)
        )
        return continuation.attention, hidden

    def _run(self, wanted: WholePass | Continuation, forward: Callable[[], Any]) -> Tensor | None:
        with self._pass_ends_after_layer():
            active[self._attention] = wanted
            try:
                forward()
            except PassEnds as ended:
                hidden = ended.hidden
            else:
                raise ModelError(f"{type(self._model).__name__} did not run its decoder layer {self._number}")
            finally:
                del active[self._attention]
        if wanted.calls != 1:
            raise ModelError(
                f"the attention of decoder layer {self._number} of {type(self._model).__name__} ran {wanted.calls} "
                "times through the registered function; exactly once was expected"
            )
        return hidden

    @contextlib.contextmanager
    def _decoder_call_seen(self, *, wanted: bool) -> Iterator[dict[str, Any]]:
        """Note what the model calls its decoder with: the tokens behind a prefix must be run alike."""
        call: dict[str, Any] = {}
        if not wanted:
            yield call
            return

        def look(_module: nn.Module, _arguments: Any, named: dict[str, Any]) -> None:
            call.update(named)

        handle = decoder_of(self._model).register_forward_pre_hook(look, with_kwargs=True)
        try:
            yield call
        finally:
            handle.remove()

    @contextlib.contextmanager
    def _pass_ends_after_layer(self) -> Iterator[None]:
        def end_after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            raise PassEnds(output[0] if isinstance(output, tuple) else output)

        def end_before(_module: nn.Module, inputs: Any) -> None:
            raise PassEnds(inputs[0])

        if self._next is None:
            handle = self._layer.register_forward_hook(end_after)
        else:
            handle = self._next.register_forward_pre_hook(end_before)
        try:
            yield
        finally:
            handle.remove()


def _positions_behind(prefixes: Sequence[Prefix], input_ids: Tensor) -> Tensor:
    """Return the position ids of the tokens behind prefixes: texts count on by one. int64 [..., batch, suffix]."""
    steps = torch.arange(input_ids.shape[1], device=input_ids.device)  # [suffix]
    firsts = [torch.full_like(steps[:1], x.length) if x.position is None else x.position for x in prefixes]  # [..., 1]
    return torch.stack(firsts, dim=-2) + steps


def decoder_of(model: Any) -> Any:
    """Return the module that holds the decoder layers of a model."""
    decoder = model.get_decoder()
    # Llama 4 names its language model with head.
    return decoder if hasattr(decoder, "layers") else getattr(decoder, "model", decoder)

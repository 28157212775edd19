"""The attention function of the wanted decoder layer: what the method reads of it is kept, then SDPA goes on.

Registered with transformers under `ATTENTION_NAME` for the language model. In the layer that is looked at it computes
the softmax of the instruction rows alone, averaged over heads and rows; in every layer it hands on to SDPA, or computes
the output itself where scores are capped or have sinks. The pass over tokens behind a known prefix attends to the
prefix's keys and values as well, which no module knows of.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scalselect.errors import ModelError
from scalselect.vlm.attention_scores import ScoreRule, attention_output, probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTENTION_NAME = "scalselect_first_layer"
_SCORE_BYTES = 256 * 2**20  # at most this much float32 attention [heads, rows, sequence] at a time
# Arguments of the attention call that are already in the mask, or change nothing in a single forward pass.
_ACCOUNTED_FOR = frozenset(
    {
        "logits_to_keep",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "sliding_window",
        "use_cache",
    }
)


class PassEnds(Exception):  # noqa: N818  control flow, not an error
    """Carries the output of the layer out of a forward pass; None where only the attention was wanted."""

    def __init__(self, hidden: Tensor | None) -> None:
        super().__init__()
        self.hidden = hidden


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The first tokens of a sequence in the decoder layer: all that later tokens need to know of them.

    Attributes
    ----------
    keys, values
        As the layer's attention takes them, model dtype [key heads, prefix, head].
    attention
        Attention of the instruction tokens inside the prefix, mean over query heads, summed over these tokens,
        float32 [prefix].
    instruction
        Number of instruction tokens inside the prefix.
    looks_ahead
        Whether a token of the prefix attends to one behind it, bool []: then it is no prefix for another sequence.
    window
        Number of tokens that each token attends to at most, itself included; None for all before it.
    hidden
        Output of the decoder layer, model dtype [prefix, hidden].
    position
        Position ids of the first token behind the prefix, as the decoder takes them, [..., 1]; None where the decoder
        counts tokens by itself.
    """

    keys: Tensor
    values: Tensor
    attention: Tensor
    instruction: int
    looks_ahead: Tensor
    window: int | None
    hidden: Tensor
    position: Tensor | None

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.keys.shape[1]


@dataclass(slots=True, eq=False)
class WholePass:
    """A pass over whole sequences: what it is asked for, and what it found.

    Attributes
    ----------
    instruction
        For each sample the positions of its instruction tokens, on the model's device, int64 [instruction].
    prefix_lengths, prefix_instruction
        For each sample the length of the wanted prefix, 0 for none, and the number of instruction tokens inside it.
    attention
        For each sample the mean attention of its instruction tokens, float32 [sequence].
    """

    instruction: Sequence[Tensor]
    prefix_lengths: Sequence[int]
    prefix_instruction: Sequence[int]
    attention: list[Tensor] = field(default_factory=list)
    calls: int = 0
    _prefixes: list[Prefix | None] = field(default_factory=list)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        rule: ScoreRule,
        *,
        window: int | None,
    ) -> None:
        """Look at the attention of a batch; shapes as in the registered function."""
        self.calls += 1
        for i, (rows, length) in enumerate(zip(self.instruction, self.prefix_lengths, strict=True)):
            mask = None if attention_mask is None else attention_mask[i if attention_mask.shape[0] > 1 else 0]
            inside = rows[: self.prefix_instruction[i]]
            total = _instruction_attention(query[i], key[i], mask, rows[len(inside) :], rule)  # [sequence]
            if length:
                within = _instruction_attention(query[i], key[i], mask, inside, rule)
                total = total + within
                self._prefixes.append(
                    Prefix(  # copies: views would keep the keys and values of the whole batch
                        keys=key[i, :, :length].clone(),
                        values=value[i, :, :length].clone(),
                        attention=within[:length].clone(),
                        instruction=len(inside),
                        looks_ahead=_looks_ahead(mask, length, key.device, causal=rule.causal),
                        window=window,
                        hidden=key.new_empty(0),
                        position=None,
                    )
                )
            else:
                self._prefixes.append(None)
            self.attention.append(total / max(1, len(rows)))

    def prefixes(self, hidden: Tensor, positions: Tensor | None) -> list[Prefix | None]:
        """Return the prefixes with what became known later: output [batch, sequence, hidden] and position ids.

        None for a sample without any token behind its prefix whose position ids would have to be guessed.
        """
        found: list[Prefix | None] = []
        for i, prefix in enumerate(self._prefixes):
            if prefix is None:
                found.append(None)
                continue
            position = None
            if positions is not None:
                several = positions.dim() > 1 and positions.shape[-2] > 1
                own = (
                    positions[..., i, :] if several else positions.reshape(*positions.shape[:-2], -1)
                )  # [..., sequence]
                position = own[..., prefix.length : prefix.length + 1].clone()  # [..., 1]
            known = position is None or position.shape[-1] == 1
            rows = hidden[i, : prefix.length].clone()
            found.append(replace(prefix, hidden=rows, position=position) if known else None)
        return found


@dataclass(slots=True, eq=False)
class Continuation:
    """A pass over the tokens behind known prefixes, under a causal mask: what it is asked for, and what it found.

    Attributes
    ----------
    instruction
        For each sample the positions of its instruction tokens behind the prefix, int64 [instruction].
    wants_hidden
        Whether the layer's output is wanted too; without, the pass ends at the attention.
    attention
        For each sample the mean attention of all its instruction tokens to its prefix, float32 [prefix].
    """

    instruction: Sequence[Tensor]
    prefixes: Sequence[Prefix]
    wants_hidden: bool
    attention: list[Tensor] = field(default_factory=list)
    calls: int = 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, rule: ScoreRule) -> Tensor:
        """Return the output of the attention, [batch, suffix, heads, head]; raises PassEnds where it is not wanted."""
        self.calls += 1
        outputs = []
        for i, (rows, prefix) in enumerate(zip(self.instruction, self.prefixes, strict=True)):
            keys = torch.cat([prefix.keys, key[i]], dim=1)  # [key heads, prefix + suffix, head]
            mask = _causal(prefix, key.shape[2])
            behind = _instruction_attention(query[i], keys, mask, rows, rule)[: prefix.length]  # [prefix]
            self.attention.append((prefix.attention + behind) / max(1, prefix.instruction + len(rows)))
            if self.wants_hidden:
                values = torch.cat([prefix.values, value[i]], dim=1)
                outputs.append(_output(query[i : i + 1], keys[None], values[None], mask[None], rule))
        if not self.wants_hidden:
            raise PassEnds(None)
        return torch.cat(outputs)


active: WeakKeyDictionary[nn.Module, WholePass | Continuation] = WeakKeyDictionary()


def _attention_forward(  # noqa: PLR0917  the signature that transformers calls
    module: nn.Module,
    query: Tensor,  # [batch, heads, sequence, head]
    key: Tensor,  # [batch, key heads, sequence, head]
    value: Tensor,  # [batch, key heads, sequence, head]
    attention_mask: Tensor | None,  # [batch or 1, 1, sequence, sequence], boolean or additive
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,  # attention sinks, [heads]
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    # In every layer that runs: SDPA would leave out what it does not know without a word.
    for name, argument in {**kwargs, "dropout": dropout or None}.items():
        if name not in _ACCOUNTED_FOR and argument is not None:
            raise ModelError(f"the decoder's attention uses `{name}`, which is not supported: {argument!r:.60}")
    rule = ScoreRule(
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        softcap=softcap,
        sinks=s_aux,
        causal=is_causal if is_causal is not None else getattr(module, "is_causal", True),  # as SDPA's function does
    )
    rule.check(query.shape[1])
    wanted = active.get(module)
    if isinstance(wanted, Continuation):
        return wanted.attend(query, key, value, rule), None
    if wanted is not None:
        wanted.attend(query, key, value, attention_mask, rule, window=kwargs.get("sliding_window"))
    if not rule.is_plain:
        return attention_output(query, key, value, attention_mask, rule, score_bytes=_SCORE_BYTES), None
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **kwargs
    )
    return output, None


def _instruction_attention(query: Tensor, key: Tensor, mask: Tensor | None, rows: Tensor, rule: ScoreRule) -> Tensor:
    """Attention probabilities of one sample, mean over heads, summed over `rows`, float32 [keys].

    Only the rows of instruction tokens are ever formed: [heads, rows, keys] in pieces, never [sequence, keys].
    """
    heads, length = query.shape[0], key.shape[1]
    total = torch.zeros(length, dtype=torch.float32, device=query.device)
    if not len(rows):
        return total
    keys = key.to(torch.float32).transpose(1, 2)  # [key heads, head, keys]
    step = max(1, _SCORE_BYTES // (4 * heads * length))
    for some in torch.split(rows, step):
        total += probabilities(query, keys, mask, some, rule).sum(dim=(0, 1))
    return total / heads


def _output(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rule: ScoreRule) -> Tensor:
    """Return the output of the attention, [batch, rows, heads, head]."""
    if not rule.is_plain:
        return attention_output(query, key, value, mask, rule, score_bytes=_SCORE_BYTES)
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=rule.scale, enable_gqa=True
    )
    return output.transpose(1, 2)


def _causal(prefix: Prefix, suffix: int) -> Tensor:
    """Return which tokens those behind a prefix attend to, bool [1, suffix, prefix + suffix]."""
    column = torch.arange(prefix.length + suffix, device=prefix.keys.device)
    row = column[prefix.length :, None]
    mask = column <= row
    if prefix.window is not None:
        mask &= column > row - prefix.window
    return mask[None]


def _looks_ahead(mask: Tensor | None, length: int, device: torch.device, *, causal: bool) -> Tensor:
    """Tell whether one of the first `length` tokens attends to a later one, bool []."""
    if mask is None:
        return torch.full((), not causal, dtype=torch.bool, device=device)
    corner = mask[..., :length, length:]  # [1, prefix, suffix]
    return (corner if corner.dtype == torch.bool else corner > torch.finfo(corner.dtype).min / 2).any()


AttentionInterface.register(ATTENTION_NAME, _attention_forward)
# Without a mask function of the same name transformers passes no mask at all, and padding would be attended to.
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)

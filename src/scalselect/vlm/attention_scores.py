"""Attention probabilities of a few rows, and the output of an attention that SDPA cannot compute.

Two things stand between scores and probabilities in some language models. A soft cap `c` (Gemma 2) bends the scaled
score s to c * tanh(s / c) before the mask is laid over it. A sink (gpt-oss) is a learned score a head, a key without
value: it takes its share of the softmax and is dropped. Rows are formed in float32, a piece at a time: never
[heads, sequence, sequence] at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRule:
    """How the scores of one attention become probabilities.

    Attributes
    ----------
    scale
        Factor of the products of queries and keys.
    softcap
        Bound of the scaled scores, None where there is none.
    sinks
        One score a head [heads], None where there is none.
    causal
        What holds where no mask is given: whether later positions are hidden.
    """

    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None
    causal: bool = True

    def check(self, heads: int) -> None:
        """Raise ModelError for sinks that are not one number a head."""
        if self.sinks is not None and self.sinks.numel() != heads:
            raise ModelError(
                f"the decoder's attention has sinks (`s_aux`) of a shape that is not understood: "
                f"{list(self.sinks.shape)} for {heads} heads"
            )

    @property
    def is_plain(self) -> bool:
        """Whether SDPA computes the same."""
        return self.softcap is None and self.sinks is None


def probabilities(query: Tensor, keys: Tensor, mask: Tensor | None, rows: Tensor, rule: ScoreRule) -> Tensor:
    """Return the attention probabilities of some rows of one sample, float32 [heads, rows, keys].

    Parameters
    ----------
    query
        Queries of all rows, [heads, sequence, head].
    keys
        Transposed keys, float32 [key heads, head, keys].
    mask
        Boolean (True: may be attended to) or additive, [1, sequence, keys]; None where the rule says all.
    rows
        Positions of the wanted rows, int64 [rows].
    """
    heads, _, width = query.shape
    queries = query.index_select(1, rows).to(torch.float32)  # [heads, rows, head]
    grouped = queries.reshape(keys.shape[0], -1, width)  # [key heads, heads per key head * rows, head]
    scores = torch.matmul(grouped, keys).reshape(heads, len(rows), keys.shape[-1]) * rule.scale
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    scores = _masked(scores, mask, rows, causal=rule.causal)  # [heads, rows, keys]
    if rule.sinks is None:
        return torch.softmax(scores, dim=-1)
    sink = rule.sinks.reshape(heads, 1, 1).to(torch.float32).expand(-1, len(rows), -1)
    return torch.softmax(torch.cat([scores, sink], dim=-1), dim=-1)[..., :-1]


def attention_output(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rule: ScoreRule, *, score_bytes: int
) -> Tensor:
    """Return the output of an attention as transformers' functions do, value's dtype [batch, sequence, heads, head].

    Parameters
    ----------
    query, key, value
        [batch, heads, sequence, head] and [batch, key heads, keys, head].
    mask
        [batch or 1, 1, sequence, keys], boolean or additive; None where the rule says all.
    score_bytes
        Most bytes of float32 scores to form at a time.
    """
    batch, heads, length, _ = query.shape
    key_heads = key.shape[1]
    step = max(1, score_bytes // (4 * heads * key.shape[2]))
    output = value.new_empty(batch, length, heads, value.shape[-1])
    for i in range(batch):
        own = None if mask is None else mask[i if mask.shape[0] > 1 else 0]
        keys = key[i].to(torch.float32).transpose(1, 2)  # [key heads, head, keys]
        for rows in torch.split(torch.arange(length, device=query.device), step):
            weights = probabilities(query[i], keys, own, rows, rule).to(value.dtype)  # [heads, rows, keys]
            mixed = torch.matmul(
                weights.reshape(key_heads, -1, key.shape[2]), value[i]
            )  # [key heads, heads * rows, head]
            output[i, rows[0] : rows[-1] + 1] = mixed.reshape(heads, len(rows), -1).transpose(0, 1)
    return output


def _masked(scores: Tensor, mask: Tensor | None, rows: Tensor, *, causal: bool) -> Tensor:
    # The lowest number, not minus infinity: a row of padding, which may see nothing, stays finite, as in eager
    # attention. Wherever one key is seen the hidden ones get exactly 0.
    lowest = torch.finfo(scores.dtype).min
    if mask is None:  # transformers leaves the mask out where it is purely causal, or hides nothing
        if not causal:
            return scores
        later = torch.arange(scores.shape[-1], device=scores.device) > rows[:, None]  # [rows, keys]
        return scores.masked_fill(later, lowest)
    chosen = mask.index_select(-2, rows)  # [1, rows, keys]
    if chosen.dtype == torch.bool:
        return scores.masked_fill(~chosen, lowest)
    return scores + chosen.to(torch.float32)

"""The attended vision tokens and their mean (method, stage 1), for a batch at once: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AttendedTokens:
    """The smallest sets of vision tokens that hold more than the wanted share of attention; padded to `vision`.

    Attributes
    ----------
    kept
        Which vision tokens are averaged, bool [batch, vision]; never padding.
    cut_margin
        Distance from the wanted share to the nearest cumulative mass: how safe the cut is. float64 [batch]; NaN where
        nothing is cut.
    uniform
        There was no attention to go by, so every vision token counted alike, bool [batch].
    share
        Share of the attention that each vision token holds, p_v, float64 [batch, vision]; negative at padding. None
        where the attention had no say.
    """

    kept: Tensor
    cut_margin: Tensor
    uniform: Tensor
    share: Tensor | None


def attended_tokens(attention: Tensor, valid: Tensor, attention_mass: float) -> AttendedTokens:
    """Return the shortest prefix, by descending attention, whose cumulative mass exceeds `attention_mass`.

    Parameters
    ----------
    attention
        Mean attention a_v from the instruction to each vision token, non-negative and finite, [batch, vision].
    valid
        Which entries are vision tokens and not padding, bool [batch, vision], at least one a row.
    attention_mass
        Wanted share of the summed attention, between 0 and 1.

    Notes
    -----
    Ties go to the lower position; all tokens are kept if the mass is never exceeded. Without an instruction, or
    with no attention at all, p is uniform. Sums run in float64, so that the cut is as sharp as the attention is.
    Nothing here waits for the device.
    """
    weights = attention.to(torch.float64).masked_fill(~valid, 0.0)
    total = weights.sum(dim=1, keepdim=True)  # [batch, 1]
    tokens = valid.sum(dim=1, keepdim=True)  # int64 [batch, 1]
    uniform = ~(total > 0)  # [batch, 1]
    p = torch.where(uniform, 1.0 / tokens.to(torch.float64), weights / total).masked_fill(
        ~valid, -1.0
    )  # padding comes last
    sorted_p, order = torch.sort(p, dim=1, descending=True, stable=True)
    is_token = sorted_p >= 0
    cumulative = torch.cumsum(sorted_p.clamp(min=0.0), dim=1)  # [batch, vision]
    reached = ((cumulative <= attention_mass) & is_token).sum(dim=1, keepdim=True)
    count = torch.minimum(reached + 1, tokens)  # [batch, 1]
    first = torch.arange(p.shape[1], device=p.device) < count  # [batch, vision], in sorted order
    margin = (cumulative - attention_mass).abs().masked_fill(~is_token, torch.inf).amin(dim=1)
    return AttendedTokens(torch.zeros_like(valid).scatter(1, order, first), margin, uniform[:, 0], p)


def all_tokens(valid: Tensor) -> AttendedTokens:
    """Return all vision tokens, whatever the attention: the paper's ablation of the instruction."""
    nothing = torch.full((len(valid),), torch.nan, dtype=torch.float64, device=valid.device)
    return AttendedTokens(valid, nothing, torch.zeros_like(nothing, dtype=torch.bool), None)


def mean_of_rows(hidden: Tensor, kept: Tensor) -> Tensor:
    """Return the plain mean of the rows of `hidden` [rows, hidden] where `kept` [rows], float32 [hidden]; NaN of none.

    What is not kept has no say in it, not even where it is infinite.
    """
    rows = torch.where(kept[:, None], hidden.to(torch.float32), 0.0)  # [rows, hidden]
    return rows.sum(dim=0) / kept.sum()

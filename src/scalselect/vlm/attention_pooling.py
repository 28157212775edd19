"""The attended vision tokens and their mean (method, stage 1): tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AttendedTokens:
    """The smallest set of vision tokens that holds more than the wanted share of attention.

    Attributes
    ----------
    kept
        Indices into the vision tokens, ascending, int64 [kept].
    cut_margin
        Distance from the wanted share to the nearest cumulative mass: how safe the cut is. None where nothing is cut.
    uniform
        There was no attention to go by, so every vision token counted alike.
    """

    kept: Tensor
    cut_margin: float | None
    uniform: bool


def attended_tokens(attention: Tensor, attention_mass: float) -> AttendedTokens:
    """Return the shortest prefix, by descending attention, whose cumulative mass exceeds `attention_mass`.

    Parameters
    ----------
    attention
        Mean attention a_v from the instruction to each vision token, non-negative and finite, [vision].
    attention_mass
        Wanted share of the summed attention, between 0 and 1.

    Notes
    -----
    Ties go to the lower position; all tokens are kept if the mass is never exceeded. Without an instruction, or
    with no attention at all, p is uniform. Sums run in float64, so that the cut is as sharp as the attention is.
    """
    weights = attention.to("cpu", torch.float64)
    total = weights.sum()
    uniform = not bool(total > 0)
    p = torch.full_like(weights, 1.0 / weights.numel()) if uniform else weights / total  # [vision]
    sorted_p, order = torch.sort(p, descending=True, stable=True)
    cumulative = torch.cumsum(sorted_p, 0)  # [vision]
    count = min(int((cumulative <= attention_mass).sum()) + 1, weights.numel())
    margin = float((cumulative - attention_mass).abs().min())
    return AttendedTokens(torch.sort(order[:count]).values, margin, uniform)


def all_tokens(vision: int) -> AttendedTokens:
    """Return all vision tokens, whatever the attention: the paper's ablation of the instruction."""
    return AttendedTokens(torch.arange(vision), None, uniform=False)


def mean_of_rows(hidden: Tensor, positions: Tensor) -> Tensor:
    """Return the plain mean of `hidden` [sequence, hidden] at `positions` [rows], float32 [hidden]; NaN of no row."""
    return hidden.index_select(0, positions.to(hidden.device)).to(torch.float32).mean(dim=0)

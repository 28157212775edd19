"""From prepared samples to one vector each: a padded batch through the first layer, then attention pooling."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scalselect.errors import ShardError
from scalselect.vlm.attention_pooling import AttendedTokens, all_tokens, attended_tokens, mean_of_rows
from scalselect.vlm.batches import can_be_stacked, collate, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.image_reuse import ImageFeatureCache


@dataclass(frozen=True, slots=True, eq=False)
class SampleRepresentation:
    """The representation of one sample (method, stage 1).

    Attributes
    ----------
    vector
        Mean of layer 0's output over the attended vision tokens, float32 [hidden].
    instruction_vector
        Mean of the layer's output over the instruction tokens, float32 [hidden]; NaN where there is none. None
        where it was not asked for.
    kept
        Positions of the attended tokens in the sample's own sequence, ascending, int64 [kept].
    cut_margin
        Distance from the wanted attention mass to the nearest cumulative mass; None where all tokens are kept.
    uniform
        The instruction attends to no vision token; all counted alike.
    finite
        Neither vector nor attention holds NaN or infinity.
    """

    vector: NDArray[np.float32]
    instruction_vector: NDArray[np.float32] | None
    kept: NDArray[np.int64]
    cut_margin: float | None
    uniform: bool
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the hidden states of a sample become its vectors.

    Attributes
    ----------
    attention_mass
        Share of attention that the averaged vision tokens hold; None averages all of them.
    instruction_vector
        Whether the mean over the instruction tokens is wanted as well.
    """

    attention_mass: float | None = 0.9
    instruction_vector: bool = False


def represent_samples(
    checkpoint: Checkpoint,
    samples: Sequence[PreparedSample],
    pooling: Pooling,
    *,
    padding_side: str = "right",
    cache: ImageFeatureCache | None = None,
) -> tuple[list[SampleRepresentation], int]:
    """Represent one batch of samples; a batch too large for the memory is halved and tried again.

    Samples whose tensors cannot share a batch exactly run one by one.

    Parameters
    ----------
    cache
        Features of images seen before, used and added to; None pushes every image through the tower.

    Returns
    -------
    list of SampleRepresentation
        In the order of `samples`.
    int
        How often a batch was halved.

    Raises
    ------
    ShardError
        If a single sample does not fit into the memory.
    """
    if len(samples) > 1 and not (checkpoint.batches and can_be_stacked(samples)):
        results: list[SampleRepresentation] = []
        splits = 0
        for sample in samples:
            alone, more = represent_samples(checkpoint, [sample], pooling, padding_side=padding_side, cache=cache)
            results += alone
            splits += more
        return results, splits
    try:
        return _represent_batch(checkpoint, samples, pooling, padding_side, cache), 0
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(samples) == 1:
            raise ShardError(
                f"memory ran out on {checkpoint.device} with a single sample of {samples[0].length:,} tokens: give "
                "--image-max-pixels or --max-length to make samples smaller, or --dtype bfloat16"
            ) from error
    # Outside the handler, so that the failed batch's tensors are no longer held by the exception.
    if checkpoint.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(samples) // 2
    results = []
    splits = 1
    for half in (samples[:middle], samples[middle:]):
        represented, more = represent_samples(checkpoint, half, pooling, padding_side=padding_side, cache=cache)
        results += represented
        splits += more
    return results, splits


def _represent_batch(
    checkpoint: Checkpoint,
    samples: Sequence[PreparedSample],
    pooling: Pooling,
    padding_side: str,
    cache: ImageFeatureCache | None,
) -> list[SampleRepresentation]:
    batch = collate(samples, pad_token_id=checkpoint.pad_token_id, padding_side=padding_side)
    inputs = {
        name: tensor.to(checkpoint.device, checkpoint.dtype if tensor.is_floating_point() else None)
        for name, tensor in batch.inputs.items()
    }
    known = all(sample.images for sample in samples)
    with cache.used_by(checkpoint.first_layer.model, batch.images) if cache and known else contextlib.nullcontext():
        output = checkpoint.first_layer(inputs, batch.instruction)
    # One copy from the device for the whole batch; the cuts are then found on the CPU.
    attention = torch.stack(output.attention).cpu()  # [batch, sequence]
    cuts = [
        _tokens_to_average(row.index_select(0, vision), pooling.attention_mass)
        for row, vision in zip(attention, batch.vision, strict=True)
    ]
    vectors = torch.stack(
        [mean_of_rows(output.hidden[i], batch.vision[i].index_select(0, cut.kept)) for i, cut in enumerate(cuts)]
    ).cpu()  # [batch, hidden]
    instruction = None
    if pooling.instruction_vector:
        instruction = torch.stack(
            [
                mean_of_rows(hidden, positions)
                for hidden, positions in zip(output.hidden, batch.instruction, strict=True)
            ]
        ).cpu()  # [batch, hidden]
    finite = torch.isfinite(vectors).all(dim=1) & torch.isfinite(attention).all(dim=1)
    return [
        SampleRepresentation(
            vector=vectors[i].numpy(),
            instruction_vector=None if instruction is None else instruction[i].numpy(),
            kept=np.asarray(samples[i].vision.index_select(0, cut.kept)),
            cut_margin=cut.cut_margin,
            uniform=cut.uniform,
            finite=bool(finite[i]),
        )
        for i, cut in enumerate(cuts)
    ]


def _tokens_to_average(attention: torch.Tensor, attention_mass: float | None) -> AttendedTokens:
    return all_tokens(len(attention)) if attention_mass is None else attended_tokens(attention, attention_mass)

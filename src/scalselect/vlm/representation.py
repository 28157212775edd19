"""From prepared samples to one vector each: a padded batch through the first layer, then attention pooling.

A batch is launched first and collected later: on an accelerator the next one is put together meanwhile, and the host
waits for the device once a batch, when it collects.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scalselect.vlm.attention_pooling import AttendedTokens, all_tokens, attended_tokens, mean_of_rows
from scalselect.vlm.batches import can_be_stacked, collate
from scalselect.vlm.device_memory import launch_within_memory, pinned, positions_on_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scalselect.vlm.attention_capture import Prefix
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.image_reuse import ImageFeatureCache


_KNOW_FLOAT64 = ("cpu", "cuda")  # kinds of device; others, as Apple's, leave the cut to the host


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
    share
        Share of the instruction's attention that each vision token holds, in the order of the sequence, summing to 1,
        float64 [vision]. None where it was not asked for, or had no say.
    """

    vector: NDArray[np.float32]
    instruction_vector: NDArray[np.float32] | None
    kept: NDArray[np.int64]
    cut_margin: float | None
    uniform: bool
    finite: bool
    share: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the hidden states of a sample become its vectors.

    Attributes
    ----------
    attention_mass
        Share of attention that the averaged vision tokens hold; None averages all of them.
    instruction_vector
        Whether the mean over the instruction tokens is wanted as well.
    share
        Whether each vision token's share of the attention is wanted as well.
    """

    attention_mass: float | None = 0.9
    instruction_vector: bool = False
    share: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LaunchedBatch:
    """A batch that is on its way: what will be known of it, still on the device.

    Attributes
    ----------
    prefixes
        For each sample its prefix, where one was asked for and can be gone on from.
    """

    samples: Sequence[PreparedSample]
    vectors: Tensor  # float32 [batch, hidden]
    instruction_vectors: Tensor | None  # float32 [batch, hidden]
    attended: AttendedTokens
    finite: Tensor  # bool [batch]
    prefixes: Sequence[Prefix | None]
    shares: Tensor | None = None  # float64 [batch, vision]

    def collect(self) -> list[SampleRepresentation]:
        """Wait for the device and return the representations, in the order of the samples."""
        vectors = self.vectors.cpu().numpy()
        instruction = None if self.instruction_vectors is None else self.instruction_vectors.cpu().numpy()
        kept, margins = self.attended.kept.cpu(), self.attended.cut_margin.tolist()
        uniform, finite = self.attended.uniform.tolist(), self.finite.tolist()
        shares = None if self.shares is None else self.shares.cpu().numpy()
        return [
            SampleRepresentation(
                vector=vectors[i],
                instruction_vector=None if instruction is None else instruction[i],
                kept=np.asarray(sample.vision[kept[i, : len(sample.vision)]]),
                cut_margin=None if np.isnan(margins[i]) else margins[i],
                uniform=uniform[i],
                finite=finite[i],
                share=None if shares is None else shares[i, : len(sample.vision)],
            )
            for i, sample in enumerate(self.samples)
        ]


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

    def launch(places: Sequence[int]) -> LaunchedBatch:
        some = [samples[place] for place in places]
        return launch_batch(checkpoint, some, pooling, padding_side=padding_side, cache=cache)

    results: list[SampleRepresentation] = []
    splits = 0
    every = range(len(samples))
    for places in [every] if checkpoint.batches and can_be_stacked(samples) else [[place] for place in every]:
        batches, more = launch_within_memory(launch, samples, places, checkpoint.device)
        results += [row for _, batch in batches if batch is not None for row in batch.collect()]
        splits += more
    return results, splits


@torch.inference_mode()
def launch_batch(
    checkpoint: Checkpoint,
    samples: Sequence[PreparedSample],
    pooling: Pooling,
    *,
    padding_side: str = "right",
    cache: ImageFeatureCache | None = None,
    prefix_lengths: Sequence[int] | None = None,
) -> LaunchedBatch:
    """Send whole samples through the first layer and pool, without waiting for the device.

    Parameters
    ----------
    samples
        Samples whose tensors can share a batch.
    prefix_lengths
        For each sample how many of its first tokens others go on from, 0 for none; None for none at all.
    """
    batch = collate(samples, pad_token_id=checkpoint.pad_token_id, padding_side=padding_side)
    device = checkpoint.device
    inputs = {
        name: pinned(tensor, device).to(
            device, checkpoint.dtype if tensor.is_floating_point() else None, non_blocking=True
        )
        for name, tensor in batch.inputs.items()
    }
    known = all(sample.images for sample in samples)
    with cache.used_by(checkpoint.first_layer.model, batch.images) if cache and known else contextlib.nullcontext():
        output = checkpoint.first_layer(inputs, batch.instruction, prefix_lengths)
    vision = positions_on_device(batch.vision, device)
    instruction_vectors = None
    if pooling.instruction_vector:
        instruction = positions_on_device(batch.instruction, device)
        instruction_vectors = [
            hidden.index_select(0, rows) for hidden, rows in zip(output.hidden, instruction, strict=True)
        ]
    return _pooled(
        samples,
        [attention.index_select(0, rows) for attention, rows in zip(output.attention, vision, strict=True)],
        [hidden.index_select(0, rows) for hidden, rows in zip(output.hidden, vision, strict=True)],
        instruction_vectors,
        pooling=pooling,
        prefixes=output.prefixes,
    )


@torch.inference_mode()
def launch_after_prefixes(
    checkpoint: Checkpoint, samples: Sequence[PreparedSample], prefixes: Sequence[Prefix], pooling: Pooling
) -> LaunchedBatch:
    """Send what comes behind known prefixes through the first layer and pool, without waiting for the device."""
    device = checkpoint.device
    pairs = list(zip(samples, prefixes, strict=True))
    instruction = [sample.instruction[prefix.instruction :] - prefix.length for sample, prefix in pairs]
    longest = max(sample.length - prefix.length for sample, prefix in pairs)
    input_ids = torch.full((len(samples), longest), checkpoint.pad_token_id)  # [batch, suffix]
    for i, (sample, prefix) in enumerate(pairs):
        input_ids[i, : sample.length - prefix.length] = sample.inputs["input_ids"][0, prefix.length :]
    hidden: Tensor | None = None
    if longest:
        attention, hidden = checkpoint.first_layer.after_prefixes(
            pinned(input_ids, device).to(device, non_blocking=True),
            prefixes,
            instruction,
            wants_hidden=pooling.instruction_vector,
        )
    else:  # nobody asks anything behind the images
        attention = [prefix.attention / max(1, prefix.instruction) for prefix in prefixes]
    instruction_rows = None
    if pooling.instruction_vector:
        inside = positions_on_device([sample.instruction[: prefix.instruction] for sample, prefix in pairs], device)
        behind = positions_on_device(instruction, device)
        instruction_rows = [
            torch.cat(
                [
                    prefix.hidden.index_select(0, inside[i]),
                    *([] if hidden is None else [hidden[i].index_select(0, behind[i])]),
                ]
            )
            for i, prefix in enumerate(prefixes)
        ]  # [instruction, hidden] each
    vision = positions_on_device([sample.vision for sample in samples], device)
    return _pooled(
        samples,
        [row.index_select(0, places) for row, places in zip(attention, vision, strict=True)],
        [prefix.hidden.index_select(0, places) for prefix, places in zip(prefixes, vision, strict=True)],
        instruction_rows,
        pooling=pooling,
        prefixes=[None] * len(samples),
    )


def _pooled(
    samples: Sequence[PreparedSample],
    attention: Sequence[Tensor],  # [vision] each
    hidden: Sequence[Tensor],  # [vision, hidden] each
    instruction: Sequence[Tensor] | None,  # [instruction, hidden] each
    *,
    pooling: Pooling,
    prefixes: Sequence[Prefix | None],
) -> LaunchedBatch:
    padded = torch.nn.utils.rnn.pad_sequence(list(attention), batch_first=True)  # [batch, vision]
    if padded.device.type not in _KNOW_FLOAT64:
        padded = padded.cpu()
    counts = [len(row) for row in attention]
    # Compared with a range on the host, where the counts are known.
    valid = torch.arange(padded.shape[1]) < torch.tensor(counts)[:, None]
    valid = pinned(valid, padded.device).to(padded.device, non_blocking=True)
    mass = pooling.attention_mass
    attended = all_tokens(valid) if mass is None else attended_tokens(padded, valid, mass)
    vectors = torch.stack(
        [mean_of_rows(rows, attended.kept[i, : counts[i]].to(rows.device)) for i, rows in enumerate(hidden)]
    )  # [batch, hidden]
    return LaunchedBatch(
        samples=samples,
        vectors=vectors,
        instruction_vectors=None
        if instruction is None
        else torch.stack([rows.to(torch.float32).mean(dim=0) for rows in instruction]),
        attended=attended,
        finite=torch.isfinite(vectors).all(dim=1) & torch.isfinite(padded).all(dim=1).to(vectors.device),
        prefixes=prefixes,
        shares=attended.share if pooling.share else None,
    )

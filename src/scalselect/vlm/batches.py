"""Padded batches of samples of like length, under a budget of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

# One value a token; everything else a processor returns runs along images or patches.
SEQUENCE_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "moe_mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSample:
    """One sample as the model takes it.

    Attributes
    ----------
    inputs
        The processor's tensors: sequence inputs [1, length], others along images or patches.
    images
        A key for each image that stands for its pixels; empty where none were given.
    sizes
        Width and height of each image in pixels, as it was handed in.
    instruction, vision
        Positions in the sequence, int64.
    tokens
        Tokens of the whole conversation, after truncation to the length limit. `inputs` may be shorter: tokens
        after the last instruction or vision token cannot change the representation.
    """

    inputs: dict[str, Tensor]
    images: tuple[str, ...]
    instruction: Tensor
    vision: Tensor
    tokens: int
    truncated: bool
    escaped: int
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """Tokens that go through the model."""
        return int(self.inputs["input_ids"].shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.inputs.values())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples padded to one length; positions count in the padded sequence."""

    inputs: dict[str, Tensor]
    images: tuple[str, ...]
    instruction: list[Tensor]
    vision: list[Tensor]


def plan_batches(lengths: Sequence[int], *, max_rows: int | None, max_tokens: int) -> list[list[int]]:
    """Group samples of like length; return lists of indices, longest first.

    A batch holds at most `max_rows` samples and, padded, at most `max_tokens` tokens; a longer sample is alone.
    The plan depends on its arguments alone, which is part of what makes runs repeatable.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        last = batches[-1] if batches else None
        if last and len(last) < (max_rows or len(order)) and lengths[last[0]] * (len(last) + 1) <= max_tokens:
            last.append(i)
        else:
            batches.append([i])
    return batches


def can_be_stacked(samples: Sequence[PreparedSample]) -> bool:
    """Tell whether the samples' tensors fit into one batch exactly: like shapes, or padding the model knows of."""
    first = samples[0].inputs
    if any(sample.inputs.keys() != first.keys() for sample in samples):
        return False
    return all(
        name in SEQUENCE_INPUTS
        or _is_padded_by_the_model(name, first)
        or len({tuple(sample.inputs[name].shape[1:]) for sample in samples}) == 1
        for name in first
    )


def collate(samples: Sequence[PreparedSample], *, pad_token_id: int, padding_side: str = "right") -> Batch:
    """Pad samples to the longest of them and stack them.

    Parameters
    ----------
    padding_side
        `right` or `left`; representations agree either way.
    """
    longest = max(sample.length for sample in samples)
    inputs: dict[str, Tensor] = {}
    for name in samples[0].inputs:
        tensors = [sample.inputs[name] for sample in samples]
        if name in SEQUENCE_INPUTS:
            fill = pad_token_id if name == "input_ids" else 0
            tensors = [_padded(tensor, longest, fill, padding_side) for tensor in tensors]  # [1, sequence]
        elif _is_padded_by_the_model(name, samples[0].inputs):
            tensors = _padded_with_zeros(tensors)
        inputs[name] = torch.cat(tensors)
    shifts = [longest - sample.length if padding_side == "left" else 0 for sample in samples]
    return Batch(
        inputs=inputs,
        images=tuple(key for sample in samples for key in sample.images),
        instruction=[sample.instruction + shift for sample, shift in zip(samples, shifts, strict=True)],
        vision=[sample.vision + shift for sample, shift in zip(samples, shifts, strict=True)],
    )


def _is_padded_by_the_model(name: str, inputs: dict[str, Tensor]) -> bool:
    """Tell whether the model itself cuts padding off, by the sizes given beside the pixels.

    LLaVA-NeXT and LLaVA-OneVision pad the tiles of an image, Pixtral its right and lower edge, all with zeros. The
    Idefics models know an image or tile of zeros for padding, and pad the edges of others by a mask.
    """
    beside = {"pixel_values": ("image_sizes", "pixel_attention_mask"), "pixel_attention_mask": ("pixel_values",)}
    return any(other in inputs for other in beside.get(name, ()))


def _padded_with_zeros(tensors: list[Tensor]) -> list[Tensor]:
    """Pad all dimensions but the first to the largest of each, at their ends."""
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        full = tensor.new_zeros((tensor.shape[0], *largest))
        full[tuple(slice(size) for size in tensor.shape)] = tensor
        padded.append(full)
    return padded


def _padded(tensor: Tensor, length: int, fill: int, side: str) -> Tensor:
    padding = tensor.new_full((1, length - tensor.shape[1]), fill)
    return torch.cat([tensor, padding] if side == "right" else [padding, tensor], dim=1)

"""Memory of the device: copies that need not be waited for, and running out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from scalselect.errors import ShardError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from scalselect.vlm.batches import PreparedSample

Launched = TypeVar("Launched")

_WORDS_OF_NO_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
    "can't allocate memory",
    "could not create a primitive",  # of oneDNN, which ran the same model before
)


def positions_on_device(positions: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Move int64 tensors to the device in one copy: each copy of its own would wait for the device."""
    if device.type == "cpu":
        return positions
    moved = pinned(torch.cat(list(positions)), device).to(device, non_blocking=True)
    return torch.split(moved, [len(rows) for rows in positions])


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor in memory from which a copy to a CUDA device need not be waited for."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on the device or on the host."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS_OF_NO_MEMORY)


def launch_within_memory(
    launch: Callable[[Sequence[int]], Launched],
    samples: Sequence[PreparedSample],
    places: Sequence[int],
    device: torch.device,
    *,
    skip_oom: bool = False,
) -> tuple[list[tuple[Sequence[int], Launched | None]], int]:
    """Launch a batch, or where the memory runs out its halves; return what was launched and the number of halvings.

    Parameters
    ----------
    launch
        Launches the samples at some places.
    places
        Those of `samples` that are the batch.
    skip_oom
        Whether a single sample that does not fit into the memory is left out: None stands for its batch.

    Raises
    ------
    ShardError
        If a single sample does not fit into the memory and is not to be left out.
    """
    try:
        return [(places, launch(places))], 0
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(places) == 1 and not skip_oom:
            raise ShardError(
                f"memory ran out on {device} with a single sample of {samples[places[0]].length:,} tokens: give "
                "--image-max-pixels or --max-length to make samples smaller, --dtype bfloat16, or --skip-oom to skip "
                "such samples"
            ) from error
    # Outside the handler, so that the failed batch's tensors are no longer held by the exception.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if len(places) == 1:
        return [(places, None)], 0
    middle = len(places) // 2
    first, splits = launch_within_memory(launch, samples, places[:middle], device, skip_oom=skip_oom)
    second, more = launch_within_memory(launch, samples, places[middle:], device, skip_oom=skip_oom)
    return first + second, splits + more + 1

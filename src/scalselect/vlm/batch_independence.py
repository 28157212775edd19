"""Whether a sample's row is the same in a batch as alone; where a model mixes samples, each runs by itself.

Three ways of mixing are known. HunYuan-VL counts images over the whole batch where it makes positions. Molmo2's
processor counts patches from the first of a call, so tensors of two calls cannot follow one another. Both are found
by showing the model a pair of questions, rather than by the model's name. The third shows in long samples only, and is
read in the configuration: rotary embeddings whose frequencies depend on the longest sequence of a batch.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from scalselect.vlm.batches import can_be_stacked
from scalselect.vlm.representation import Pooling, represent_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint

# Of the longest row, by number type: rounding stays below, another picture's features or positions do not.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 5e-2}


def rows_are_independent(checkpoint: Checkpoint, first: PreparedSample, second: PreparedSample) -> bool:
    """Tell whether `second` has the same positions and the same row behind `first` in a batch as alone.

    Parameters
    ----------
    first, second
        The same question about different pictures of one size; a pair that cannot be stacked runs one by one anyway.
    """
    if frequencies_depend_on_length(checkpoint.first_layer.model.config):
        return False
    if not can_be_stacked([first, second]):
        return True
    alone, positions_alone = _run(checkpoint, [second])
    try:
        together, positions = _run(checkpoint, [first, second])
    except (RuntimeError, ValueError, IndexError):  # a batch the model refuses
        return False
    # [batch, sequence], or [axes, batch, sequence]: whole numbers, so that no rounding hides a difference.
    if positions is not None and not torch.equal(positions_alone[..., -1, :], positions[..., -1, :]):
        return False
    limit = _TOLERANCE.get(checkpoint.dtype, 1e-3) * alone.norm()
    return bool((together - alone).norm() <= limit)


def frequencies_depend_on_length(config: Any) -> bool:
    """Tell whether rotary frequencies change with the length of a sequence, as `dynamic` ones and LongRoPE's do."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    # One set of parameters, or one for each kind of layer.
    each = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return any(parameters.get("rope_type") in {"dynamic", "longrope"} for parameters in each)


def _run(checkpoint: Checkpoint, samples: list[PreparedSample]) -> tuple[Tensor, Any]:
    """Return the mean over all vision tokens of the last sample, [hidden], and the decoder's positions, if given."""
    seen: list[Any] = []
    with _positions_noted(checkpoint.first_layer.model.get_decoder(), seen):
        rows, _ = represent_samples(checkpoint, samples, Pooling(attention_mass=None))
    return torch.from_numpy(rows[-1].vector), seen[-1]


@contextlib.contextmanager
def _positions_noted(decoder: nn.Module, seen: list[Any]) -> Iterator[None]:
    def note(_module: nn.Module, _arguments: Any, named: dict[str, Any]) -> None:
        seen.append(named.get("position_ids"))

    handle = decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()

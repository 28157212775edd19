"""Samples of one window that begin alike up to the end of their last image: one of them is run, the rest go on from it.

Under a mask that looks back only, the decoder layer's output at vision tokens and their keys depend on nothing that
comes after the images. Questions about one picture mostly differ only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from scalselect.errors import ModelError
from scalselect.vlm.batches import collate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scalselect.vlm.attention_capture import Prefix
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint

# Of the largest value: what rounding alone may do to a layer's output and attention.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def prefix_length(sample: PreparedSample) -> int:
    """Return the number of tokens up to and including the last vision token."""
    return int(sample.vision[-1]) + 1


def leaders_of(samples: Sequence[PreparedSample]) -> dict[int, int]:
    """Return which sample goes on from which: the place of a follower to that of its leader.

    A leader is the longest sample of its group, so that there is a token behind the prefix whose position is known if
    any sample has one. Samples whose images have no keys follow none.
    """
    groups: dict[object, list[int]] = {}
    for place, sample in enumerate(samples):
        if sample.images:
            groups.setdefault(_beginning(sample), []).append(place)
    leaders: dict[int, int] = {}
    for places in groups.values():
        leader = max(places, key=lambda place: (samples[place].length, -place))
        leaders |= {place: leader for place in places if place != leader}
    return leaders


def _beginning(sample: PreparedSample) -> object:
    """Return what must be equal: the pictures, the tokens, and which of them are instruction."""
    length = prefix_length(sample)
    tokens = sample.inputs["input_ids"][0, :length]
    inside = sample.instruction[sample.instruction < length]
    return sample.images, tokens.numpy().tobytes(), inside.numpy().tobytes()


@torch.inference_mode()
def prefix_can_be_shared(checkpoint: Checkpoint, one: PreparedSample, other: PreparedSample) -> bool:
    """Try on two samples that begin alike whether the second comes to the same behind the first one's prefix.

    False for a model whose mask looks ahead (a prefix language model), whose decoder needs more than token embeddings
    and positions, or where the numbers differ for whatever other reason.
    """
    length = prefix_length(one)
    if not leaders_of([one, other]) or min(one.length, other.length) <= length:
        return False
    layer, device = checkpoint.first_layer, checkpoint.device
    try:
        whole = []
        for sample in (one, other):
            inputs = collate([sample], pad_token_id=checkpoint.pad_token_id).inputs
            inputs = {
                name: x.to(device, checkpoint.dtype if x.is_floating_point() else None) for name, x in inputs.items()
            }
            whole.append(layer(inputs, [sample.instruction], [length]))
        prefix = whole[0].prefixes[0]
        if prefix is None or bool(prefix.looks_ahead) or not _mask_is_known(layer.model, prefix):
            return False
        ids = other.inputs["input_ids"][:, length:].to(device)
        inside = other.instruction[prefix.instruction :] - length
        [attention], hidden = layer.after_prefixes(ids, [prefix], [inside], wants_hidden=True)
    except (ModelError, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        return False  # a decoder that cannot be called by itself
    tolerance = _TOLERANCE.get(checkpoint.dtype, 0.0)
    expected = whole[1].hidden[0]  # [sequence, hidden]
    return (
        hidden is not None
        and _close(attention, whole[1].attention[0][:length], tolerance)
        and _close(prefix.hidden, expected[:length], tolerance)
        and _close(hidden[0], expected[length:], tolerance)
    )


def _mask_is_known(model: Any, prefix: Prefix) -> bool:
    """Tell whether the layer's mask is causal but for a window that it told of: two short samples do not show one."""
    text = model.config.get_text_config()
    kind = (getattr(text, "layer_types", None) or ["full_attention"])[0]
    return kind == "full_attention" or (kind == "sliding_attention" and prefix.window is not None)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    difference = (found.to(torch.float32) - expected.to(torch.float32)).abs().max()
    return bool(difference <= tolerance * expected.to(torch.float32).abs().max())

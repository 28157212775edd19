"""Prepared samples on their way out of the processes beside the model: tensors travel as arrays.

The processes are an engine's, which knows neither tensors nor what a fork means to the libraries of this room.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.vlm.batches import PreparedSample

Group = TypeVar("Group")
Facts = TypeVar("Facts")

can_fork = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class PackedPreparation(Generic[Group, Facts]):
    """Prepares a group where its samples must travel: with arrays in place of tensors.

    Attributes
    ----------
    prepare
        Returns the prepared samples of a group, and facts that can be pickled.
    """

    prepare: Callable[[Group], tuple[list[PreparedSample | None], Facts]]

    def __call__(self, group: Group) -> tuple[list[PreparedSample | None], Facts]:
        """Return what `prepare` makes of a group, packed; raises what it raises."""
        samples, facts = self.prepare(group)
        return _packed(samples), facts


def begin_in_a_fork() -> None:
    """Take one thread in this process, which was forked.

    The threads of OpenMP do not come along into a fork, and whoever asks for several there waits for ever.
    """
    torch.set_num_threads(1)


@contextlib.contextmanager
def quiet_fork() -> Iterator[None]:
    """Keep the tokenizers library from warning of a fork: one text at a time needs no threads."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _packed(samples: Sequence[PreparedSample | None]) -> list[PreparedSample | None]:
    """Return samples with arrays in place of tensors; what they share stays one array."""
    packed: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Any:
        if id(tensor) not in packed:  # numpy has no bfloat16; such a tensor is sent as it is
            packed[id(tensor)] = tensor if tensor.dtype == torch.bfloat16 else tensor.numpy()
        return packed[id(tensor)]

    return _changed(samples, pack)


def arrived(samples: Sequence[PreparedSample | None]) -> list[PreparedSample | None]:
    """Return packed samples with tensors again; what several of them share is one tensor."""
    tensors: dict[int, Tensor] = {}

    def unpack(value: Any) -> Tensor:
        if id(value) not in tensors:
            tensors[id(value)] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        return tensors[id(value)]

    return _changed(samples, unpack)


def _changed(samples: Sequence[PreparedSample | None], change: Callable[[Any], Any]) -> list[PreparedSample | None]:
    return [
        None
        if sample is None
        else replace(
            sample,
            inputs={name: change(value) for name, value in sample.inputs.items()},
            instruction=change(sample.instruction),
            vision=change(sample.vision),
        )
        for sample in samples
    ]

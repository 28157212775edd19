"""Samples that show the same pictures share what the image processor makes of them."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator


class PictureMemo:
    """Remembers the last result of an image processor.

    Parameters
    ----------
    image_processor
        A transformers image processor; while the memo is open, its `preprocess` answers the same pictures (the same
        objects, in the same order) with the same tensors.
    """

    def __init__(self, image_processor: Any) -> None:
        self._image_processor = image_processor
        self.computed = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Remember what is processed while the block runs, and forget it at its end."""
        original = self._image_processor.preprocess
        last: list[tuple[Any, Any, Any]] = []  # key, pictures (held, so that no other gets their identity), features

        def preprocess(images: Any, *arguments: Any, **options: Any) -> Any:
            identity = _identity(images)
            if arguments or identity is None:
                self.computed += 1
                return original(images, *arguments, **options)
            key = identity, repr(sorted(options.items()))
            if not last or last[0][0] != key:
                self.computed += 1
                last[:] = [(key, images, original(images, **options))]
            return _copy_of(last[0][2])

        self._image_processor.preprocess = preprocess
        try:
            yield
        finally:
            del self._image_processor.preprocess  # the method of the class comes back


def _identity(images: Any) -> Any:
    """Return a key of nested lists of pictures, None where they hold anything else."""
    if isinstance(images, Image.Image):
        return id(images)
    if isinstance(images, (list, tuple)):
        keys = tuple(_identity(each) for each in images)
        return None if None in keys else keys
    return None


def _copy_of(features: Any) -> Any:
    """Return the features with tensors shared and all else copied: processors take entries out of what they get."""
    duplicate = copy.copy(features)
    for name, value in features.items():
        duplicate[name] = value if isinstance(value, Tensor) else copy.deepcopy(value)
    return duplicate

"""Samples that share an image share its way through the vision tower: each image is pushed through once.

Pools ask several questions about one picture, and the tower is most of the work. While a batch runs, the model's own
`get_image_features` is stood in for: images whose features are known are left out of the call, and the known features
are put back in their places. Nothing else of the forward pass changes. Where the images of a batch cannot be told
apart in its tensors, the model's method runs as it is.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Arguments that say nothing of single images, so that a call over fewer images may keep them.
_SAME_FOR_ALL = frozenset({"vision_feature_layer", "vision_feature_select_strategy", "return_dict", "use_cache"})
# What an output holds beside the features, and no model reads.
_NOT_READ = frozenset({"pooler_output", "last_hidden_state", "hidden_states", "attentions"})
_GRID = "image_grid_thw"  # Qwen's patches of each image: [images, 3]


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What the tower made of one image: features [tokens, hidden], and one such tensor for each DeepStack level."""

    projected: Tensor
    deepstack: tuple[Tensor, ...]


class ImageFeatureCache:
    """Features of the images last seen, by a key that stands for an image's pixels.

    Parameters
    ----------
    images
        Number of images to remember; the one that was not used for longest is forgotten first.

    Attributes
    ----------
    capacity
        Number of images that are remembered.
    computed, reused
        How many images went through the tower, and how many did not need to.
    """

    def __init__(self, images: int = 128) -> None:
        self.capacity = images
        self._known: dict[str, ImageFeatures] = {}
        self._is_one_tensor = False  # whether this family hands its images on stacked, not as a list
        self._hands_on_otherwise = False  # what is neither: nothing is reused
        self._levels_are_split = False  # whether this version of transformers hands DeepStack levels on image by image
        self.computed = 0
        self.reused = 0

    @contextlib.contextmanager
    def used_by(self, model: Any, keys: Sequence[str]) -> Iterator[None]:
        """Let `model` take known features while the block runs.

        Parameters
        ----------
        keys
            One key for every image of the batch, in the order of its tensors.
        """
        owner = getattr(model, "model", model)
        original = getattr(owner, "get_image_features", None)
        if original is None:  # a family that reads its images otherwise
            yield
            return
        names = list(inspect.signature(original).parameters)[1:]

        def get_image_features(pixel_values: Tensor, *arguments: Any, **options: Any) -> Any:
            # By name: what stands second is a grid in one family and the pictures' sizes in another.
            named = dict(zip(names, arguments, strict=False)) | options
            return self._features(original, keys, pixel_values, named)

        owner.get_image_features = get_image_features
        try:
            yield
        finally:
            del owner.get_image_features  # the method of the class comes back

    def _features(
        self, original: Callable[..., Any], keys: Sequence[str], pixel_values: Tensor, options: dict[str, Any]
    ) -> Any:
        grid = options.get(_GRID)
        given = {name for name, value in options.items() if value is not None}
        apart = not self._hands_on_otherwise and not given - _SAME_FOR_ALL - {_GRID}
        pieces = _pieces(pixel_values, grid, len(keys)) if apart else None
        if pieces is None:
            self.computed += len(keys)
            return original(pixel_values, **options)
        new = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._known}
        places = sorted(new.values())
        found = {key: self._known[key] for key in keys if key in self._known}
        if places:
            chosen = torch.cat([pieces[place] for place in places])
            some = {} if grid is None else {_GRID: grid[places]}
            output = original(chosen, **{**options, **some})
            if not _is_image_by_image(output, len(places), grid):
                self._hands_on_otherwise = True
                self.computed += len(keys)
                return original(pixel_values, **options)
            found |= self._by_key(output, [keys[place] for place in places])
        self.computed += len(places)
        self.reused += len(keys) - len(places)
        self._remember(found)
        levels = [tuple(found[key].deepstack[i] for key in keys) for i in range(len(found[keys[0]].deepstack))]
        projected = [found[key].projected for key in keys]
        return SimpleNamespace(
            pooler_output=torch.stack(projected) if self._is_one_tensor else projected,
            deepstack_features=levels if self._levels_are_split else [torch.cat(level) for level in levels],
        )

    def _by_key(self, output: Any, keys: Sequence[str]) -> dict[str, ImageFeatures]:
        self._is_one_tensor = isinstance(output.pooler_output, Tensor)
        projected = list(output.pooler_output)
        counts = [len(features) for features in projected]
        levels = getattr(output, "deepstack_features", None) or []
        self._levels_are_split = any(not isinstance(level, Tensor) for level in levels)
        split = [torch.split(x, counts) if isinstance(x, Tensor) else x for x in levels]  # [levels][images]
        return {key: ImageFeatures(projected[i], tuple(level[i] for level in split)) for i, key in enumerate(keys)}

    def _remember(self, found: dict[str, ImageFeatures]) -> None:
        for key, features in found.items():
            self._known.pop(key, None)
            self._known[key] = features
        for key in list(self._known)[: max(0, len(self._known) - self.capacity)]:
            del self._known[key]


def _is_image_by_image(output: Any, images: int, grid: Tensor | None) -> bool:
    """Tell whether an output holds the features of each image by itself, and nothing else that the model reads."""
    features = getattr(output, "pooler_output", None)
    if isinstance(features, (list, tuple)):
        return len(features) == images
    if not isinstance(features, Tensor) or grid is not None:
        return False
    others = {name for name in vars(output) if getattr(output, name) is not None} - _NOT_READ
    return features.dim() == 3 and len(features) == images and not others  # noqa: PLR2004  [images, tokens, hidden]


def _pieces(pixel_values: Tensor, grid: Tensor | None, images: int) -> Sequence[Tensor] | None:
    """Return the tensors of the single images, or None where they cannot be told apart."""
    if grid is not None:  # Qwen: patches of all images in a row, [patches, features]
        return torch.split(pixel_values, grid.prod(dim=-1).tolist()) if len(grid) == images else None
    # One picture each, [images, channels, height, width].
    return torch.split(pixel_values, 1) if pixel_values.dim() == 4 and len(pixel_values) == images else None  # noqa: PLR2004

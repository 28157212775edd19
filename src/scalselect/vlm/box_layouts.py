"""Pictures that become one grid of tokens: as a whole, cropped, padded, or in a size of their own.

Every layout returns, for each picture, the boxes of its tokens in the order of the sequence: left, top, right, bottom
as shares of the picture's width and height.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

Boxes: TypeAlias = NDArray[np.float64]  # [tokens, 4]
Frame: TypeAlias = tuple[float, float, float, float]
WHOLE: Frame = (0.0, 0.0, 1.0, 1.0)


class UnknownLayoutError(Exception):
    """What the processor returned is not what its settings say, as far as they are understood."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is known of a sample's pictures.

    Attributes
    ----------
    config, image_processor
        Of the checkpoint.
    inputs
        What the processor returned.
    sizes
        Width and height of each picture in pixels, as the processor saw it.
    tokens
        Number of vision tokens of the sample.
    """

    config: Any
    image_processor: Any
    inputs: Mapping[str, Tensor]
    sizes: Sequence[tuple[int, int]]
    tokens: int

    def side(self, views: int) -> int:
        """Return the side of the square grid of tokens that each of so many views has."""
        side = math.isqrt(self.tokens // max(1, views))
        if side * side * views != self.tokens:
            raise UnknownLayoutError
        return side


def grid(rows: int, columns: int, frame: Frame = WHOLE) -> Boxes:
    """Return the boxes of a grid over a frame, row by row."""
    left, top, right, bottom = frame
    x, y = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)


def whole_views(seen: Seen) -> list[Boxes]:
    """Place one square view a picture, stretched to it."""
    if len(seen.inputs["pixel_values"]) != len(seen.sizes):  # Gemma 3 can pan and scan
        raise UnknownLayoutError
    side = seen.side(len(seen.sizes))
    return [grid(side, side) for _ in seen.sizes]


def cropped_views(seen: Seen) -> list[Boxes]:
    """Place one square view a picture, as CLIP's processor cuts it; a grid under a Pixtral tower."""
    if getattr(getattr(seen.config, "vision_config", None), "model_type", None) == "pixtral":
        return pixtral_grids(seen)
    side = seen.side(len(seen.sizes))
    return [grid(side, side, _frame(seen.image_processor, *size)) for size in seen.sizes]


def _frame(processor: Any, width: int, height: int) -> Frame:
    """Return what of a picture is left when its shorter side was scaled and the middle cut out."""
    size = processor.size
    if processor.do_resize:
        if size.get("shortest_edge"):
            short, scaled = min(width, height), size["shortest_edge"]
            longer = int(scaled * max(width, height) / short)
            width, height = (scaled, longer) if width <= height else (longer, scaled)
        else:
            width, height = size["width"], size["height"]
    if not getattr(processor, "do_center_crop", False):
        return WHOLE
    crop = processor.crop_size
    left, top = round((width - crop["width"]) / 2), round((height - crop["height"]) / 2)
    return (left / width, top / height, (left + crop["width"]) / width, (top + crop["height"]) / height)


def padded_squares(seen: Seen) -> list[Boxes]:
    """Place one square view a picture, which lies in its middle, scaled so that the longer side fills it."""
    side, found = seen.side(len(seen.sizes)), []
    canvas = seen.image_processor.size["height"]
    for width, height in seen.sizes:
        wide, high = (
            max(round(x * canvas / max(width, height)), seen.image_processor.min_size) for x in (width, height)
        )
        left, top = (canvas - wide) // 2, (canvas - high) // 2
        found.append(grid(side, side, (-left / wide, -top / high, (canvas - left) / wide, (canvas - top) / high)))
    return found


def merged_grids(seen: Seen) -> list[Boxes]:
    """Place a grid of patches as large as the picture asks for, several of which become one token."""
    return [grid(rows, columns) for rows, columns in _merged(seen)]


def _merged(seen: Seen) -> list[tuple[int, int]]:
    """Return the rows and columns of tokens of each picture."""
    merges = [seen.image_processor.merge_size] * len(seen.sizes)
    if "image_merge_sizes" in seen.inputs:
        merges = seen.inputs["image_merge_sizes"].tolist()
    grids = seen.inputs["image_grid_thw"].tolist()
    if any(frames != 1 for frames, _, _ in grids):
        raise UnknownLayoutError
    return [(rows // merge, columns // merge) for (_, rows, columns), merge in zip(grids, merges, strict=True)]


def hunyuan_grids(seen: Seen) -> list[Boxes]:
    """Place a grid of merged patches, with a token behind each row and one at either end."""
    place = np.full((1, 4), np.nan)
    return [np.concatenate([place, lines(grid(rows, columns), columns), place]) for rows, columns in _merged(seen)]


def lines(boxes: Boxes, columns: int) -> Boxes:
    """Return the boxes of a grid with a token that shows no place behind each row."""
    rows = boxes.reshape(-1, columns, 4)
    ends = np.full((len(rows), 1, 4), np.nan)
    return np.concatenate([rows, ends], axis=1).reshape(-1, 4)


def pixtral_grids(seen: Seen) -> list[Boxes]:
    """Place a grid of patches of the size that the processor gave the picture, merged where the model merges."""
    patch = seen.config.vision_config.patch_size * getattr(seen.config, "spatial_merge_size", 1)
    return [grid(height // patch, width // patch) for height, width in seen.inputs["image_sizes"].tolist()]


def gemma4_grids(seen: Seen) -> list[Boxes]:
    """Place a grid of patches whose positions the processor tells, squares of which are pooled to a token."""
    positions = seen.inputs["image_position_ids"].numpy()  # column and row, [images, patches, 2], -1 for padding
    pooled = math.isqrt(int((positions[..., 0] >= 0).sum()) // seen.tokens)
    shapes = [(places.max(axis=0) + 1) // pooled for places in positions]
    return [grid(int(rows), int(columns)) for columns, rows in shapes]


def navit_grids(seen: Seen) -> list[Boxes]:
    """Place a grid of patches over a picture that is padded on the right and below: Kimi-K2.5."""
    processor, found = seen.image_processor, []
    fitted = sys.modules[type(processor).__module__].navit_resize
    for (width, height), (rows, columns) in zip(seen.sizes, _merged(seen), strict=True):
        (high, wide), _ = fitted(
            height=height,
            width=width,
            patch_size=processor.patch_size,
            merge_kernel_size=processor.merge_size,
            max_patches=processor.max_patches,
            max_size_per_side=processor.size["max_height"],
        )
        token = processor.patch_size * processor.merge_size
        found.append(grid(rows, columns, (0.0, 0.0, columns * token / wide, rows * token / high)))
    return found

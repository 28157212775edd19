"""Pictures that are cut into tiles, each a square grid of tokens, mostly with a view of the whole beside them.

The layouts return what those of `box_layouts` do. How many tiles a picture gets is asked of the functions that its
processor asks itself.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.image_processing_utils import select_best_resolution

from scalselect.vlm.box_layouts import WHOLE, UnknownLayoutError, grid, lines

if TYPE_CHECKING:
    from scalselect.vlm.box_layouts import Boxes, Frame, Seen


def tiles(rows: int, columns: int, side: int, frame: Frame = WHOLE) -> Boxes:
    """Place tiles over a frame, tile by tile, each a grid of `side` by `side` tokens."""
    return np.concatenate([grid(side, side, tuple(box)) for box in grid(rows, columns, frame)])


def _beside_its_processor(seen: Seen, name: str) -> Any:
    """Return a function of the module that the image processor comes from."""
    return getattr(sys.modules[type(seen.image_processor).__module__], name)


def _with_view_of_the_whole(seen: Seen, shapes: list[tuple[int, int]], *, whole_first: bool, views: int) -> list[Boxes]:
    """Return tiles of (rows, columns), with one more view of the whole picture where there are several."""
    if views == len(shapes):  # nothing is cut
        shapes = [(1, 1)] * len(shapes)
    numbers = [rows * columns + (rows * columns > 1) for rows, columns in shapes]
    if sum(numbers) != views:
        raise UnknownLayoutError
    side, found = seen.side(views), []
    for rows, columns in shapes:
        parts = [tiles(rows, columns, side), *([grid(side, side)] if rows * columns > 1 else [])]
        found.append(np.concatenate(parts[::-1] if whole_first else parts))
    return found


def canvas_tiles(seen: Seen) -> list[Boxes]:
    """Place tiles in the shape nearest to the picture's, then the whole picture, as InternVL's."""
    processor, size = seen.image_processor, seen.image_processor.size
    best = _beside_its_processor(seen, "get_optimal_tiled_canvas")
    shapes = []
    for width, height in seen.sizes:
        columns, rows = best(
            (height, width), (size["height"], size["width"]), processor.min_patches, processor.max_patches
        )
        shapes.append((int(rows), int(columns)))
    return _with_view_of_the_whole(seen, shapes, whole_first=False, views=len(seen.inputs["pixel_values"]))


def covering_tiles(seen: Seen) -> list[Boxes]:
    """Place the whole picture, then as few tiles as cover most of it: Ovis2."""
    processor, size = seen.image_processor, seen.image_processor.size
    if not processor.use_covering_area_grid:
        raise UnknownLayoutError
    best = _beside_its_processor(seen, "get_min_tile_covering_grid")
    shapes = []
    for width, height in seen.sizes:
        columns, rows = best(
            (height, width),
            target_patch_size=size["height"],
            max_image_tiles=processor.max_patches,
            covering_threshold=0.9,
        )
        shapes.append((int(rows), int(columns)))
    return _with_view_of_the_whole(seen, shapes, whole_first=True, views=len(seen.inputs["pixel_values"]))


def splitting_tiles(seen: Seen) -> list[Boxes]:
    """Place tiles of a picture scaled to whole numbers of them, then the whole picture: Idefics3 and SmolVLM."""
    processor = seen.image_processor
    tile, longest = processor.max_image_size["longest_edge"], processor.size["longest_edge"]
    shapes = []
    for width, height in seen.sizes:
        if not processor.do_image_splitting:
            shapes.append((1, 1))
            continue
        wide, high = _scaled_to(longest, width, height)
        if wide >= high:
            columns = math.ceil(wide / tile)
            rows = math.ceil(int(columns * tile / (wide / high)) / tile)
        else:
            rows = math.ceil(high / tile)
            columns = math.ceil(int(rows * tile * (wide / high)) / tile)
        shapes.append((rows, columns))
    views = sum(rows * columns + (rows * columns > 1) for rows, columns in shapes)
    if views != int(seen.inputs["pixel_values"].shape[1]):
        raise UnknownLayoutError
    return _with_view_of_the_whole(seen, shapes, whole_first=False, views=views)


def _scaled_to(longest: int, width: int, height: int) -> tuple[int, int]:
    """Return width and height with this longer side, the shorter one even."""
    if width >= height:
        shorter = int(longest / (width / height))
        return longest, max(1, shorter + shorter % 2)
    shorter = int(longest * (width / height))
    return max(1, shorter + shorter % 2), longest


def llama4_tiles(seen: Seen) -> list[Boxes]:
    """Place tiles of a canvas in whose upper left corner the picture lies, then the whole picture: Llama 4."""
    processor = seen.image_processor
    tile = processor.size["height"]
    resolutions = _beside_its_processor(seen, "find_supported_resolutions")(processor.max_patches, processor.size)
    best = _beside_its_processor(seen, "get_best_fit")
    scaled = _beside_its_processor(seen, "get_max_res_without_distortion")
    if processor.resize_to_max_canvas:
        raise UnknownLayoutError
    views, parts = 0, []
    for width, height in seen.sizes:
        high, wide = (int(x) for x in best((height, width), _as_tensor(resolutions)))
        within = (min(max(height, tile), high), min(max(width, tile), wide))
        new_high, new_wide = (max(x, 1) for x in scaled((height, width), within))
        shape = (high // tile, wide // tile)
        views += shape[0] * shape[1] + (shape[0] * shape[1] > 1)
        parts.append((shape, (0.0, 0.0, wide / new_wide, high / new_high)))
    side = seen.side(views)
    found = []
    for (rows, columns), frame in parts:
        whole = [grid(side, side)] if rows * columns > 1 else []
        found.append(np.concatenate([tiles(rows, columns, side, frame), *whole]))
    return found


def _as_tensor(resolutions: Any) -> Any:
    import torch  # noqa: PLC0415

    return torch.tensor(resolutions)


def anyres_tiles(seen: Seen) -> list[Boxes]:
    """Place the whole picture, then the picture in the middle of a canvas of tiles, without most of the padding.

    LLaVA-NeXT and LLaVA-OneVision; each row of the second view is followed by a token of its own.
    """
    vision = seen.config.vision_config
    side = vision.image_size // vision.patch_size
    if seen.inputs.get("batch_num_images") is not None and (seen.inputs["batch_num_images"] != 1).any():
        raise UnknownLayoutError
    found = []
    for width, height in seen.sizes:
        high, wide = select_best_resolution((height, width), seen.config.image_grid_pinpoints)
        rows, columns = side * (high // vision.image_size), side * (wide // vision.image_size)
        second, kept_columns = _without_padding((width, height), (wide, high), rows, columns)
        second, kept_columns = _at_most(seen, second, kept_columns, side)
        found.append(np.concatenate([grid(side, side), lines(second, kept_columns)]))
    return found


def _without_padding(size: tuple[int, int], canvas: tuple[int, int], rows: int, columns: int) -> tuple[Boxes, int]:
    """Return the boxes of the rows and columns of a canvas that are kept, and the number of these columns."""
    width, height = size
    wide, high = canvas
    scale = min(wide / width, high / height)
    if wide / width < high / height:
        new_wide, new_high = wide, min(math.ceil(height * scale), high)
    else:
        new_wide, new_high = min(math.ceil(width * scale), wide), high
    left, top = (wide - new_wide) // 2, (high - new_high) // 2
    frame = (-left / new_wide, -top / new_high, (wide - left) / new_wide, (high - top) / new_high)
    boxes = grid(rows, columns, frame).reshape(rows, columns, 4)
    if width / height > columns / rows:
        cut = (rows - int(round(height * columns / width, 7))) // 2
        boxes = boxes[cut : rows - cut]
    else:
        cut = (columns - int(round(width * rows / height, 7))) // 2
        boxes = boxes[:, cut : columns - cut]
    return boxes.reshape(-1, 4), boxes.shape[1]


def _at_most(seen: Seen, boxes: Boxes, columns: int, side: int) -> tuple[Boxes, int]:
    """Return a coarser grid where LLaVA-OneVision scales one down that has too many tokens."""
    limit = getattr(seen.config, "vision_aspect_ratio", None)
    if not limit:
        return boxes, columns
    rows = len(boxes) // columns
    ratio = math.sqrt(rows * columns / (int(limit.removeprefix("anyres_max_")) * side**2))
    if ratio <= 1.1:  # noqa: PLR2004  the model's own bound
        return boxes, columns
    frame = (boxes[0, 0], boxes[0, 1], boxes[-1, 2], boxes[-1, 3])
    return grid(int(rows // ratio), int(columns // ratio), frame), int(columns // ratio)

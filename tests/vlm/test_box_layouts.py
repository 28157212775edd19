"""Boxes with the settings of published checkpoints: as many as the processors themselves make tokens or views."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    DeepseekVLImageProcessor,
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    Llama4ImageProcessor,
    Ovis2ImageProcessor,
    SiglipImageProcessor,
    SmolVLMImageProcessor,
)

from scalselect.vlm.box_layouts import Seen, cropped_views, grid, lines, padded_squares
from scalselect.vlm.tiled_layouts import anyres_tiles, canvas_tiles, covering_tiles, llama4_tiles, splitting_tiles

SIZES = ((640, 480), (427, 640), (1000, 150), (90, 700), (336, 336), (2016, 1344), (31, 57))


def seen(processor, sizes, tokens, config=None, **inputs):
    return Seen(config or SimpleNamespace(), processor, inputs, sizes, tokens)


def grey(size):
    return Image.new("RGB", size, (128, 128, 128))


def covers(boxes):
    """Return the area that boxes cover inside the picture, and the area of all that they show of it."""
    inside = np.clip(boxes[~np.isnan(boxes[:, 0])], 0, 1)
    return ((inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])).sum()


def test_a_grid_goes_row_by_row():
    assert grid(2, 3, (0, 0, 3, 2)).tolist() == [
        [0, 0, 1, 1],
        [1, 0, 2, 1],
        [2, 0, 3, 1],
        [0, 1, 1, 2],
        [1, 1, 2, 2],
        [2, 1, 3, 2],
    ]
    ended = lines(grid(2, 3), 3)
    assert np.flatnonzero(np.isnan(ended).all(axis=1)).tolist() == [3, 7]


def test_what_clip_crops_has_no_box():
    boxes = cropped_views(seen(CLIPImageProcessor(size=336, crop_size=336), [(672, 336), (336, 1344)], 2 * 24**2))
    np.testing.assert_allclose([boxes[0][0, :2], boxes[0][-1, 2:]], [[0.25, 0], [0.75, 1]])
    np.testing.assert_allclose([boxes[1][0, :2], boxes[1][-1, 2:]], [[0, 0.375], [1, 0.625]])


def test_what_siglip_stretches_has_boxes_all_over():
    (boxes,) = cropped_views(seen(SiglipImageProcessor(), [(640, 480)], 27**2))
    assert (boxes[0, :2].tolist(), boxes[-1, 2:].tolist()) == ([0, 0], [1, 1])
    assert covers(boxes) == pytest.approx(1)


def test_what_is_padded_to_a_square_lies_outside():
    (boxes,) = padded_squares(seen(DeepseekVLImageProcessor(), [(768, 384)], 24**2))
    np.testing.assert_allclose([boxes[0, :2], boxes[-1, 2:]], [[0, -0.5], [1, 1.5]])
    assert covers(boxes) == pytest.approx(1)


@pytest.mark.parametrize(
    ("processor", "layout", "side", "options"),
    [
        (GotOcr2ImageProcessor(size={"height": 448, "width": 448}), canvas_tiles, 16, {"crop_to_patches": True}),
        (Ovis2ImageProcessor(size={"height": 448, "width": 448}), covering_tiles, 16, {"crop_to_patches": True}),
        (Llama4ImageProcessor(), llama4_tiles, 12, {}),
        (Idefics3ImageProcessor(), splitting_tiles, 13, {}),
        (
            SmolVLMImageProcessor(size={"longest_edge": 4 * 512}, max_image_size={"longest_edge": 512}),
            splitting_tiles,
            8,
            {},
        ),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_as_many_views_as_the_processor_makes(processor, layout, side, options, size):
    pixels = processor([grey(size)], return_tensors="pt", **options)["pixel_values"]
    views = pixels.shape[1] if layout is splitting_tiles else pixels.shape[0]
    (boxes,) = layout(seen(processor, [size], views * side**2, pixel_values=pixels))
    assert len(boxes) == views * side**2
    assert covers(boxes) == pytest.approx(1 if views == 1 else 2)  # the tiles, and the whole


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("family", "image_size", "patch", "limit"),
    [
        ("llava_next", 336, 14, None),
        ("llava_onevision", 384, 14, "anyres_max_9"),
        ("llava_onevision", 384, 14, "anyres_max_4"),
    ],
)
def test_as_many_tokens_as_the_processor_counts(checkpoints, family, image_size, patch, limit, size):
    processor = AutoProcessor.from_pretrained(checkpoints(family))
    steps = range(image_size, 6 * image_size + 1, image_size)
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    if limit is not None:
        pinpoints = [[high, wide] for high in steps for wide in steps]
    processor.patch_size, processor.image_processor.image_grid_pinpoints = patch, pinpoints
    side = image_size // patch
    if limit is not None:
        processor.vision_aspect_ratio, processor.num_image_tokens = limit, side**2
    counted = processor._get_number_of_features(size[1], size[0], image_size, image_size)
    if limit is None:
        counted -= processor.num_additional_image_tokens  # CLIP's class token, which is not handed on
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=image_size, patch_size=patch),
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio=limit,
    )
    (boxes,) = anyres_tiles(seen(processor.image_processor, [size], counted, config, image_sizes=torch.zeros(1, 2)))
    assert len(boxes) == counted
    assert covers(boxes[: side**2]) == pytest.approx(1)
    assert covers(boxes[side**2 :]) > 0.9  # a token at an edge may be cut off with the padding

"""How trainers see pictures: resized before RGB as LLaMA-Factory does, on white as transformers does, turned."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_transforms import convert_to_rgb

from scalselect.config import RepresentConfig, RunConfig
from scalselect.errors import SampleError
from scalselect.image_files import MAX_ASPECT_RATIO, PictureView, decode_image

LLAMAFACTORY = PictureView.of(RunConfig.from_options({"like": "llamafactory"}).represent)


def content(picture, **options):
    sink = io.BytesIO()
    picture.save(sink, options.pop("format", "PNG"), **options)
    return sink.getvalue()


def noise(width, height, mode="RGB"):
    random = np.random.default_rng(width * 1000 + height)
    picture = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((3000, 2000), (940, 627)),  # what LLaMA-Factory 0.9.5 made of these two
        ((40, 20), (45, 22)),
        ((768, 768), (768, 768)),
        ((32, 32), (32, 32)),
        ((640, 480), (640, 480)),
        ((769, 768), (768, 767)),
    ],
)
def test_sides_after_the_resizing_of_llamafactory(size, seen):
    assert decode_image(content(Image.new("RGB", size)), view=LLAMAFACTORY).picture.size == seen


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
@pytest.mark.parametrize(("size", "seen"), [((60, 20), (103, 34)), ((300, 200), (122, 81))])
def test_resized_before_it_becomes_rgb_with_the_default_filter(mode, size, seen):
    picture = noise(*size, mode)
    limits = RepresentConfig(image_resize="before", image_min_pixels=60**2, image_max_pixels=10**4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_image(content(picture), view=PictureView.of(limits)).picture
    assert np.array_equal(np.asarray(found), np.asarray(picture.resize(seen).convert("RGB")))
    if mode == "RGBA":
        assert not np.array_equal(np.asarray(found), np.asarray(picture.convert("RGB").resize(seen)))


def test_limits_of_the_processor_resize_nothing():
    limits = RepresentConfig(image_min_pixels=60**2, image_max_pixels=10**4)
    assert PictureView.of(limits) == PictureView()
    assert decode_image(content(noise(300, 200)), view=PictureView.of(limits)).picture.size == (300, 200)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)).filter(lambda size: max(size) <= MAX_ASPECT_RATIO * min(size)),
    st.integers(300, 5000),
    st.sampled_from(["min_pixels", "max_pixels"]),
)
def test_both_sides_change_by_one_factor_and_are_rounded_down(size, limit, which):
    width, height = decode_image(content(Image.new("1", size)), view=PictureView(**{which: limit})).picture.size
    pixels = size[0] * size[1]
    wanted = max(pixels, limit) if which == "min_pixels" else min(pixels, limit)
    factor = math.sqrt(wanted / pixels)
    for found, side in ((width, size[0]), (height, size[1])):
        assert -1 - 1e-9 < found - side * factor <= 1e-9
    assert width * height <= wanted


def test_a_side_that_would_be_lost_is_a_reason():
    with pytest.raises(SampleError, match="400 x 2 pixels: one side is lost when resized to 100 pixels") as caught:
        decode_image(content(Image.new("RGB", (400, 2))), view=PictureView(max_pixels=100))
    assert caught.value.reason == "image_too_large"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_on_white_is_what_the_processor_of_transformers_makes_of_it(mode):
    if mode == "P":
        picture = noise(9, 7, "P")
        saved = content(picture, transparency=bytes(range(256)))
    else:
        picture = noise(9, 7, "RGBA")
        saved = content(picture.convert(mode))
    image = decode_image(saved, view=PictureView(alpha="white"))
    assert image.alpha
    assert np.array_equal(np.asarray(image.picture), convert_to_rgb(Image.open(io.BytesIO(saved)), return_numpy=True))
    assert not np.array_equal(np.asarray(image.picture), np.asarray(decode_image(saved).picture))


def test_white_changes_no_picture_without_transparency():
    for mode in ("RGB", "L", "CMYK", "1"):
        saved = content(noise(6, 5, mode), format="TIFF")
        white = decode_image(saved, view=PictureView(alpha="white")).picture
        assert np.array_equal(np.asarray(white), np.asarray(decode_image(saved).picture))


def test_one_transparent_colour():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    saved = content(red, transparency=(255, 0, 0))
    assert decode_image(saved).picture.getpixel((0, 0)) == (255, 0, 0)
    assert decode_image(saved, view=PictureView(alpha="white")).picture.getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_that_is_turned_is_turned_first():
    exif = Image.Exif()
    exif[0x0112] = 6
    saved = content(Image.new("RGB", (40, 20)), exif=exif)
    view = PictureView(exif="apply", max_pixels=200)
    assert decode_image(saved, view=view).picture.size == (10, 20)

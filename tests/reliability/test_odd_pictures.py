"""What docs/formats.md says of odd and broken picture files, each as it says."""

import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from malformed_pictures import encoded, noise, png_claiming
from scalselect.errors import SampleError
from scalselect.image_files import PictureView, decode_image

GENERATOR = random.Random(3)
FRAMES = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]


def reason(content, **view):
    with pytest.raises(SampleError) as caught:
        decode_image(content, view=PictureView(**view))
    assert caught.value.detail
    return str(caught.value.reason)


def first_pixel(content, **view):
    return decode_image(content, view=PictureView(**view)).picture.getpixel((0, 0))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"])
def test_cut_short_anywhere_is_unreadable_or_decoded(kind):
    whole = encoded(noise(GENERATOR), kind)
    assert reason(whole[: len(whole) // 2]) == "image_unreadable"
    for stop in range(0, len(whole), max(1, len(whole) // 40)):
        try:
            assert decode_image(whole[:stop]).picture.mode == "RGB"
        except SampleError as error:
            assert error.reason in {"image_unreadable", "image_too_large"}  # noqa: PT017


NO_PICTURES = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "pdf": b"%PDF-1.4\n%\xe2\n",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "no width": png_claiming(0, 9),
    "no height": png_claiming(9, 0),
    "long text": png_claiming(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))), data=bytes(28 * 9)),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_unreadable(name):
    assert reason(NO_PICTURES[name]) == "image_unreadable"


@pytest.mark.parametrize(
    "content",
    [png_claiming(100_000, 100_000), png_claiming(2**31 - 1, 2**31 - 1), encoded(Image.new("L", (1, 100_000)), "PNG")],
)
def test_bombs_and_strips_are_too_large_before_anything_is_decoded(monkeypatch, content):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _image: pytest.fail("decoded"))
    assert reason(content) == "image_too_large"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_first_of_several_pictures_is_seen(kind):
    red, green, blue = first_pixel(encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:]))
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


def test_deep_grey_is_cut_off():
    assert first_pixel(encoded(Image.fromarray(np.full((4, 4), 40_000, np.uint16)), "PNG")) == (255, 255, 255)
    assert first_pixel(encoded(Image.fromarray(np.full((4, 4), 100, np.uint16)), "PNG")) == (100, 100, 100)
    assert first_pixel(encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")) == (0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "seen"),
    [
        ("CMYK", (255, 0, 0, 0), "TIFF", (0, 255, 255)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (9, 0), "PNG", (9, 9, 9)),
        ("RGBA", (7, 8, 9, 0), "PNG", (7, 8, 9)),
    ],
)
def test_modes_become_rgb(mode, colour, kind, seen):
    assert first_pixel(encoded(Image.new(mode, (4, 4), colour), kind)) == seen


def test_broken_profile_and_broken_exif_change_nothing():
    plain = Image.new("RGB", (4, 4), (1, 2, 3))
    assert first_pixel(encoded(plain, "PNG", icc_profile=b"x" * 100)) == (1, 2, 3)
    assert first_pixel(encoded(plain, "PNG", exif=b"Exif\0\0" + b"zz" * 40), exif="apply") == (1, 2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_counted_and_applied_when_asked_for(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(noise(GENERATOR), "JPEG", exif=exif)
    stored, turned = decode_image(content), decode_image(content, view=PictureView(exif="apply"))
    assert stored.exif_rotated == (orientation > 1)
    assert stored.picture.size == Image.open(io.BytesIO(content)).size
    assert turned.picture.size == (stored.picture.size if orientation < 5 else stored.picture.size[::-1])

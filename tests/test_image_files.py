"""Pictures come out as RGB with what is worth knowing; every way to fail has its reason, or passes through."""

import errno
import hashlib
import io
import os
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scalselect import image_files
from scalselect.config import RepresentConfig
from scalselect.errors import SampleError
from scalselect.image_files import PictureView, decode_image, open_image
from scalselect.pillow_limit import pixel_limit

GRADIENT = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)  # [height, width, channel]


def saved(tmp_path, picture, name="a.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return str(path)


def failure(path, **options):
    with pytest.raises(SampleError) as caught:
        open_image(path, **options)
    return caught.value


def test_picture_hash_and_size(tmp_path):
    path = saved(tmp_path, Image.fromarray(GRADIENT))
    image = open_image(path)
    content = Path(path).read_bytes()
    assert (image.sha256, image.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert image.picture.mode == "RGB"
    assert np.array_equal(np.asarray(image.picture), GRADIENT)
    assert not image.alpha
    assert not image.exif_rotated


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16", "F", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    picture = Image.fromarray(GRADIENT).convert("L").convert(mode) if mode != "P" else Image.new("P", (6, 4), 3)
    image = open_image(saved(tmp_path, picture, "a.tiff"))
    assert (image.picture.mode, image.picture.size, image.alpha) == ("RGB", (6, 4), False)


def test_alpha_is_dropped_not_blended(tmp_path):
    image = open_image(saved(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 0))))
    assert image.alpha
    assert image.picture.getpixel((0, 0)) == (255, 0, 0)
    assert open_image(saved(tmp_path, Image.new("LA", (2, 2), (9, 0)))).picture.getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize("transparency", [0, b"\x00\x80"])
def test_palette_transparency_is_alpha(tmp_path, transparency):
    picture = Image.new("P", (2, 2), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    path = saved(tmp_path, picture, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_image(path)
    assert image.alpha
    assert image.picture.getpixel((0, 0)) == (255, 0, 0)
    assert "transparency" not in image.picture.info


@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8, 9, 300])
def test_orientation_is_told_and_applied_only_when_asked(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(GRADIENT), exif=exif)
    ignored, applied = open_image(path), open_image(path, view=PictureView(exif="apply"))
    assert ignored.exif_rotated == applied.exif_rotated == (orientation in {3, 6, 8})
    assert np.array_equal(np.asarray(ignored.picture), GRADIENT)
    turns = {3: 2, 6: 3, 8: 1}.get(orientation, 0)
    assert np.array_equal(np.asarray(applied.picture), np.rot90(GRADIENT, turns))


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_broken_exif_spoils_no_picture(tmp_path, exif):
    path = saved(tmp_path, Image.fromarray(GRADIENT), exif=b"Exif\x00\x00MM\x00\xff\xff\xff\xff\xff")
    image = open_image(path, view=PictureView(exif=exif))
    assert not image.exif_rotated
    assert image.picture.size == (6, 4)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(path).picture.getpixel((0, 0)) == (255, 0, 0)


def test_a_jpeg_of_which_few_pixels_are_enough_is_decoded_smaller_but_not_below(tmp_path):
    content = Path(saved(tmp_path, Image.fromarray(GRADIENT).resize((2400, 1600)), "a.jpg")).read_bytes()
    assert decode_image(content).picture.size == (2400, 1600)
    assert decode_image(content, side=192).picture.size == (300, 200)
    assert decode_image(content, side=301).picture.size == (600, 400)
    whole = decode_image(content, side=2400)
    assert whole.picture.size == (2400, 1600)
    assert whole.sha256 == decode_image(content, side=192).sha256


def test_only_a_jpeg_is_decoded_smaller(tmp_path):
    content = Path(saved(tmp_path, Image.fromarray(GRADIENT).resize((240, 160)))).read_bytes()
    assert decode_image(content, side=20).picture.size == (240, 160)


def test_symbolic_link_is_followed(tmp_path):
    saved(tmp_path, Image.fromarray(GRADIENT))
    (tmp_path / "link.png").symlink_to("a.png")
    assert open_image(str(tmp_path / "link.png")).picture.size == (6, 4)


def test_nothing_there_is_image_missing(tmp_path):
    saved(tmp_path, Image.fromarray(GRADIENT))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("none.png", "a.png/b.png", "x" * 5000, "circle", "dangling", "a\0b", "\ud83d.png"):
        missing = failure(f"{tmp_path}/{name}")
        assert missing.reason == "image_missing"
        assert len(missing.detail) < 400
        missing.detail.encode()


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "kernel").symlink_to("/proc/self/status")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", tmp_path, "/dev/zero", tmp_path / "kernel"):
        assert failure(str(path)).reason == "image_unreadable"


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_undecodable_is_image_unreadable(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert failure(str(tmp_path / "a.png")).reason == "image_unreadable"


def test_drawing_that_needs_another_program_is_not_drawn(tmp_path):
    assert "EPS" in failure(saved(tmp_path, Image.fromarray(GRADIENT), "a.eps")).detail


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_truncated_is_image_unreadable(tmp_path, name):
    path = Path(saved(tmp_path, Image.effect_noise((64, 64), 50).convert("RGB"), name))
    path.write_bytes(path.read_bytes()[:-200])
    assert failure(str(path)).reason == "image_unreadable"


def test_limit_of_pixels_is_checked_before_decoding(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GRADIENT))
    assert open_image(path, max_pixels=24).picture.size == (6, 4)

    def never(_image):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    large = failure(path, max_pixels=23)
    assert large.reason == "image_too_large"
    assert "6 x 4" in large.detail


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (3, 601)])
def test_thin_picture_is_too_large_before_decoding(tmp_path, monkeypatch, size):
    path = saved(tmp_path, Image.new("RGB", size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _image: pytest.fail("decoded"))
    thin = failure(path)
    assert thin.reason == "image_too_large"
    assert thin.detail == f"{size[0]} x {size[1]} pixels: one side is more than 200 times the other"


@pytest.mark.parametrize("size", [(1, 200), (600, 3)])
def test_picture_not_quite_as_thin_is_read(tmp_path, size):
    assert open_image(saved(tmp_path, Image.new("RGB", size))).picture.size == size


def icon_that_holds(tmp_path, size):
    """Write an icon whose header says 6 x 4 and whose picture is another."""
    path, inner = Path(saved(tmp_path, Image.fromarray(GRADIENT), "a.ico", sizes=[(6, 4)])), io.BytesIO()
    Image.new("RGB", size).save(inner, "PNG")
    header = path.read_bytes()[:22]
    path.write_bytes(header[:14] + len(inner.getvalue()).to_bytes(4, "little") + header[18:] + inner.getvalue())
    return str(path)


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
def test_icon_is_as_large_as_what_it_holds(tmp_path):
    assert "1 x 900 pixels" in failure(icon_that_holds(tmp_path, (1, 900))).detail
    assert "30 x 30 pixels" in failure(icon_that_holds(tmp_path, (30, 30)), max_pixels=899).detail


def test_what_pillow_calls_a_bomb_is_too_large(tmp_path):
    path = saved(tmp_path, Image.fromarray(GRADIENT))
    bomb = failure(path, max_pixels=11)  # of 24
    assert (bomb.reason, bomb.detail) == (
        "image_too_large",
        "image size (24 pixels), more than 11 (--decode-max-pixels)",
    )


def test_decode_max_pixels_lowers_and_raises_every_limit(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GRADIENT))
    view = PictureView.of(RepresentConfig(decode_max_pixels=24))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # Pillow's own would refuse more than 10
    assert open_image(path, view=view, max_pixels=5).picture.size == (6, 4)
    assert Image.MAX_IMAGE_PIXELS == 5
    lower = failure(path, view=PictureView(decode_max_pixels=23))
    assert (lower.reason, lower.detail) == ("image_too_large", "6 x 4 pixels, more than 23 (--decode-max-pixels)")
    assert Image.MAX_IMAGE_PIXELS == 5


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
def test_picture_inside_an_icon_is_not_decoded_above_the_limit(tmp_path, monkeypatch):
    path = icon_that_holds(tmp_path, (70, 70))
    view = PictureView(decode_max_pixels=30)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda _image: pytest.fail("decoded"))
    assert failure(path, view=view).detail == "image size (4900 pixels), more than 30 (--decode-max-pixels)"


def test_highest_limit_of_threads_counts_until_all_have_ended():
    before = Image.MAX_IMAGE_PIXELS
    with pixel_limit(10):
        other = pixel_limit(30)
        with other:
            assert Image.MAX_IMAGE_PIXELS == 30
        assert Image.MAX_IMAGE_PIXELS == 10
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("action", ["error", "always", "ignore"])
def test_only_our_own_limit_counts_whatever_the_warning_filters(tmp_path, monkeypatch, action):
    path = saved(tmp_path, Image.fromarray(GRADIENT))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        if action == "always":  # Pillow itself does warn
            Image.open(path).close()
            assert len(caught) == 1
            caught.clear()
        assert open_image(path).picture.size == (6, 4)
        assert failure(path, max_pixels=23).reason == "image_too_large"
        assert caught == []


def test_other_warnings_of_pillow_are_shown_once(tmp_path, monkeypatch):
    path = icon_that_holds(tmp_path, (7, 7))
    monkeypatch.setattr(image_files, "_warned_of", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            open_image(path)
    assert [str(each.message) for each in caught] == ["Image was not the expected size"]


def test_memory_error_is_not_swallowed(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GRADIENT))

    def exhausted(_image):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", exhausted)
    with pytest.raises(MemoryError):
        open_image(path)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_failures_that_say_nothing_of_the_sample_pass_through(tmp_path, monkeypatch, number):
    path = saved(tmp_path, Image.fromarray(GRADIENT))

    def fail(_descriptor, _size):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("scalselect.local_images.os.read", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_image(path)
    assert not isinstance(caught.value, SampleError)


def test_forbidden_file_is_image_unreadable(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GRADIENT))

    def forbid(_path, _flags):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("scalselect.local_images.os.open", forbid)
    assert failure(path).reason == "image_unreadable"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bytes_never_raise_anything_else(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "a"
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM"):
        buffer = io.BytesIO()
        Image.effect_noise((16, 16), 50).convert("RGB").save(buffer, kind)
        for _ in range(60):
            content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
            content[generator.integers(0, min(len(content), 200), 4)] = generator.integers(0, 256, 4)
            path.write_bytes(content.tobytes())
            try:
                open_image(str(path))
            except SampleError as error:
                assert error.reason in {"image_unreadable", "image_too_large"}  # noqa: PT017

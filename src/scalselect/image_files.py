"""Open an image within limits: the picture as RGB, and what is worth knowing of its file."""

from __future__ import annotations

import errno
import io
import math
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from scalselect.errors import SampleError
from scalselect.failures import machine_failure
from scalselect.http_images import fetch_image, is_web_address
from scalselect.local_images import lies_within, local_image_exists, read_local_image, refuse_outside
from scalselect.pillow_limit import pixel_limit
from scalselect.records import Reason
from scalselect.remote_files import is_known, is_remote, normalised, read_remote
from scalselect.remote_path import path_of
from scalselect.storage import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from scalselect.config import RepresentConfig

MAX_PIXELS = 178_956_970  # where Pillow itself refuses, unless told otherwise
MAX_ASPECT_RATIO = 200  # scaling the shorter side to a model's size makes more of such a picture than memory holds

_ORIENTATIONS = range(2, 9)  # the values of the tag that turn or mirror
_MAX_LOCATION_BYTES = 1024  # the longest key of the stores

_warned_of: set[tuple[type[Warning], str]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """How a picture is seen, in the order of these fields: trainers differ in it.

    Attributes
    ----------
    exif
        `apply` turns the picture as its orientation tag says, `ignore` leaves it as stored.
    min_pixels, max_pixels
        A picture of more (fewer) pixels is shrunk (grown) to about so many before it becomes RGB, as LLaMA-Factory does
        it: both sides times the same factor, rounded down, with Pillow's own filter. None: left as it is.
    alpha
        `drop` shows the colour beneath transparency, `white` lays the picture on white.
    decode_max_pixels
        A picture whose file holds more pixels is not decoded; None: `MAX_PIXELS`.
    """

    exif: str = "ignore"
    min_pixels: int | None = None
    max_pixels: int | None = None
    alpha: str = "drop"
    decode_max_pixels: int | None = None

    @classmethod
    def of(cls, config: RepresentConfig) -> PictureView:
        """Return what the options of a run ask for."""
        before = config.image_resize == "before"
        return cls(
            exif=config.exif,
            min_pixels=config.image_min_pixels if before else None,
            max_pixels=config.image_max_pixels if before else None,
            alpha=config.alpha,
            decode_max_pixels=config.decode_max_pixels,
        )

    def __call__(self, image: Image.Image, *, rotated: bool) -> Image.Image:
        """Return the picture as it is seen, mode RGB. Raises SampleError, `image_too_large`, if no pixel is left."""
        if self.exif == "apply" and rotated:
            image = ImageOps.exif_transpose(image)
        image = self._within_limits(image)
        if self.alpha == "white" and image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image.info.pop("transparency", None)  # else Pillow warns that it is dropped
        return image.convert("RGB")

    def _within_limits(self, image: Image.Image) -> Image.Image:
        if self.max_pixels is not None and image.width * image.height > self.max_pixels:
            image = image.resize(_sides(image, self.max_pixels))
        if self.min_pixels is not None and image.width * image.height < self.min_pixels:
            image = image.resize(_sides(image, self.min_pixels))
        return image


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A picture and its file.

    Attributes
    ----------
    picture
        Mode RGB, first frame, as the view asks for it.
    sha256, bytes
        Hash and size of the file as read.
    exif_rotated
        An orientation tag that turns or mirrors (2 to 8) is present, whether it was applied or not.
    alpha
        The file has an alpha channel or a transparent colour.
    """

    picture: Image.Image
    sha256: str
    bytes: int
    exif_rotated: bool
    alpha: bool


def open_image(
    path: str, *, view: PictureView = PictureView(), max_pixels: int = MAX_PIXELS, within: str | None = None
) -> DecodedImage:
    """Read and decode the image file at `path`, or at a URL such as ``s3://bucket/a.jpg``; see `decode_image`.

    Parameters
    ----------
    within
        Folder or URL in which the file must lie, wherever links lead; None: anywhere.

    Raises
    ------
    SampleError
        `image_missing`, `image_outside`, and what `decode_image` raises.
    OSError
        Failures that say nothing of the sample: too many open files, a broken disk, a stale mount, a store
        that cannot be reached or denies access.
    """
    return decode_image(read_image_file(path, within=within), view=view, max_pixels=max_pixels)


def image_exists(path: str, *, within: str | None = None) -> bool:
    """Tell whether a file lies at a local path or URL; not whether it is an image.

    An image on the web counts as being there: a server is asked for it once, when it is fetched.

    Raises
    ------
    SampleError
        `image_outside`, or `image_unreadable` for what is never opened.
    OSError
        As `open_image`.
    """
    if is_web_address(path):
        return True
    if not is_remote(path):
        return local_image_exists(path, within)
    refuse_location_outside(path, within)
    return path_of(path).is_file()


def decode_image(
    content: bytes, *, view: PictureView = PictureView(), max_pixels: int = MAX_PIXELS, side: int | None = None
) -> DecodedImage:
    """Decode the bytes of an image file.

    Parameters
    ----------
    view
        How the picture is seen.
    max_pixels
        Highest width times height that is decoded where the view tells none.
    side
        Pixels of the longer side that are enough: a JPEG is then decoded smaller, but not below that, for a part of the
        work. None: every pixel.

    Raises
    ------
    SampleError
        `image_unreadable`, or `image_too_large` for more pixels than that or a side more than `MAX_ASPECT_RATIO` times
        the other; the detail leaves naming the file to the caller.
    MemoryError
        The picture does not fit into memory.
    """
    if not content:
        _refuse_unreadable("an empty file")
    max_pixels = view.decode_max_pixels or max_pixels
    try:
        with pixel_limit(max_pixels), _no_warning_of_size(), Image.open(io.BytesIO(content)) as image:
            _check_size(image, max_pixels)
            if image.format == "EPS":  # Pillow would start another program to draw it
                _refuse_unreadable("an EPS drawing")
            if side is not None:
                factor = side / max(image.size)
                image.draft(image.mode, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
            image.load()
            _check_size(image, max_pixels)  # an icon's header may have told another size
            rotated = _orientation(image) in _ORIENTATIONS
            alpha = image.has_transparency_data
            picture = view(image, rotated=rotated)
    except (SampleError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        told = str(error).partition(" exceeds")[0].lower()  # what follows is Pillow's name for the limit
        raise SampleError(Reason.IMAGE_TOO_LARGE, f"{told}, more than {max_pixels:,} (--decode-max-pixels)") from None
    except UnidentifiedImageError:  # its own message shows an address in memory, another one each time
        _refuse_unreadable("no picture in a format that can be read")
    except Exception as error:  # Pillow's decoders raise nearly everything on broken files
        if machine_failure(error) is not None:
            raise
        _refuse_unreadable(f"{type(error).__name__}: {error}")
    return DecodedImage(picture, sha256_of_bytes(content), len(content), rotated, alpha)


def read_image_file(path: str, *, within: str | None = None) -> bytes:
    """Return the bytes of the image file at a path or URL; raises what `open_image` raises for files."""
    if is_web_address(path):  # allowed by whoever let the reference through
        return fetch_image(path)
    if not is_remote(path):
        return read_local_image(path, within)
    refuse_location_outside(path, within)
    return _read_remote_file(path)


def refuse_location_outside(location: str, within: str | None) -> None:
    """Raise SampleError, `image_outside`, where a URL is not below the folder that images are confined to.

    A web address is let through by an option of its own, and a protocol that is not read is refused as such.
    """
    if within is None or not is_known(location):
        return
    if not is_remote(within) or not lies_within(normalised(location), normalised(within)):
        refuse_outside()


def _read_remote_file(location: str) -> bytes:
    if not is_known(location):
        raise SampleError(Reason.IMAGE_MISSING, "no protocol that images are read by")
    if "\0" in location or len(location.encode()) > _MAX_LOCATION_BYTES:
        raise SampleError(Reason.IMAGE_MISSING, "no possible name of a file")  # a store may call it a failure
    try:
        return read_remote(location)
    except IsADirectoryError:
        _refuse_unreadable("a folder")
    except FileNotFoundError:  # told as on a disk: where the data lie must not change what is written
        raise SampleError(Reason.IMAGE_MISSING, os.strerror(errno.ENOENT)) from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise SampleError(
            Reason.IMAGE_TOO_LARGE, f"{width} x {height} pixels, more than {max_pixels:,} (--decode-max-pixels)"
        )
    if max(width, height) > MAX_ASPECT_RATIO * max(1, min(width, height)):
        how = f"one side is more than {MAX_ASPECT_RATIO} times the other"
        raise SampleError(Reason.IMAGE_TOO_LARGE, f"{width} x {height} pixels: {how}")


def _sides(image: Image.Image, pixels: int) -> tuple[int, int]:
    factor = math.sqrt(pixels / (image.width * image.height))
    width, height = int(image.width * factor), int(image.height * factor)
    if not width or not height:
        detail = f"{image.width} x {image.height} pixels: one side is lost when resized to {pixels:,} pixels"
        raise SampleError(Reason.IMAGE_TOO_LARGE, detail)
    return width, height


@contextmanager
def _no_warning_of_size() -> Iterator[None]:
    """Keep Pillow's warning of large pictures to ourselves: `max_pixels` is the limit here.

    Changing the filters makes Python forget which warnings it has shown, so every other one is passed on by hand, once.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
    for each in caught:
        known = (each.category, str(each.message))
        if known not in _warned_of:
            _warned_of.add(known)
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  a broken tag block spoils no picture
        return 1


def _refuse_unreadable(detail: str) -> NoReturn:
    raise SampleError(Reason.IMAGE_UNREADABLE, detail)

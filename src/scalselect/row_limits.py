"""Limits of what one row may show: how many images, and how many pixels its pictures may have together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.errors import SampleError
from scalselect.image_files import MAX_PIXELS
from scalselect.records import Reason

if TYPE_CHECKING:
    from PIL import Image

    from scalselect.image_files import PictureView

MOST_IMAGES = 1_000
PICTURES_TOGETHER = 4  # times the pixels that one picture may have: all of a row are held in memory at once


def check_number_of_images(images: int) -> None:
    """Raise SampleError, `too_long`, for a row that shows more images than `MOST_IMAGES`."""
    if images > MOST_IMAGES:
        raise SampleError(Reason.TOO_LONG, f"shows {images:,} images, more than {MOST_IMAGES:,}")


class PixelsTogether:
    """Counts the pixels of the pictures of one row, as the view shows them, while they are opened one after another.

    Parameters
    ----------
    view
        Its `decode_max_pixels` is what one picture may have; all together may have `PICTURES_TOGETHER` times that.
    """

    def __init__(self, view: PictureView) -> None:
        self._most = PICTURES_TOGETHER * (view.decode_max_pixels or MAX_PIXELS)
        self._pixels = 0

    def add(self, picture: Image.Image) -> None:
        """Count the next picture. Raises SampleError, `image_too_large`, where they become too many."""
        self.add_pixels(picture.width * picture.height)

    def add_pixels(self, pixels: int) -> None:
        """Count the next picture, of which only the number of pixels is known; raises as `add`."""
        self._pixels += pixels
        if self._pixels > self._most:
            raise SampleError(
                Reason.IMAGE_TOO_LARGE,
                f"up to this picture the row shows {self._pixels:,} pixels together, more than {self._most:,} "
                f"({PICTURES_TOGETHER} times --decode-max-pixels)",
            )

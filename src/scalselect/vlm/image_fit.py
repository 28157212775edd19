"""How a picture meets the processor: as it is, or padded to a square first, as LLaVA's trainer does it.

CLIP's processor scales the shorter side and crops what then sticks out. LLaVA-1.5 was trained on pictures that lost
nothing: each was laid on a square of the processor's mean colour, which becomes zero when the processor normalises.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from scalselect.errors import ModelError, OptionError, SampleError
from scalselect.image_files import MAX_PIXELS
from scalselect.records import Reason

CONFIG_FIELD = "scalselect_image_fit"  # of a checkpoint's config.json: what `--image-fit auto` stands for
_CHANNELS = 3


def declared_image_fit(model_config: Any) -> str:
    """Return what a checkpoint's configuration says of its pictures; `processor` where it says nothing.

    Raises
    ------
    ModelError
        If it says something unknown.
    """
    declared = getattr(model_config, CONFIG_FIELD, "processor")
    if declared not in ("processor", "pad"):
        raise ModelError(f"the configuration's {CONFIG_FIELD} is neither `processor` nor `pad`: {declared!r}")
    return str(declared)


def mean_colour(image_processor: Any) -> tuple[int, int, int]:
    """Return the colour that the processor subtracts, 0 to 255, rounded down as LLaVA's trainer does.

    Raises
    ------
    OptionError
        If the processor subtracts none.
    """
    mean = getattr(image_processor, "image_mean", None)
    if mean is None or len(mean) != _CHANNELS:
        raise OptionError(
            f"image_fit `pad` is not possible: {type(image_processor).__name__} tells no mean colour (image_mean) to "
            "pad with; give --image-fit processor"
        )
    red, green, blue = (int(channel * 255) for channel in mean)
    return red, green, blue


def padded_to_square(picture: Image.Image, colour: tuple[int, int, int], most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return `picture` (mode RGB) in the middle of a square of `colour`; a square picture as it is.

    The side is the longer one of the picture. An odd difference leaves one row or column more below or to the right.

    Raises
    ------
    SampleError
        `image_too_large`, if the square would have more pixels than `most_pixels`.
    """
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    if side**2 > most_pixels:
        told = f"{width} x {height} pixels, padded to a square {side**2:,}"
        raise SampleError(Reason.IMAGE_TOO_LARGE, f"{told}, more than {most_pixels:,} (--decode-max-pixels)")
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square

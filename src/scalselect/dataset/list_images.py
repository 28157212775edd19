"""Images inside Python records, bytes or Pillow's pictures: taken out of the record, and their bytes given again."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Mapping
from typing import Any

from PIL import Image

from scalselect.errors import SampleError
from scalselect.records import Reason

Embedded = bytes | Image.Image

_BYTES = (bytes, bytearray, memoryview)


def holds_image(value: object) -> bool:
    """Tell whether the value is bytes or a picture."""
    return isinstance(value, (*_BYTES, Image.Image))


def without_images(record: object, taken: list[Embedded], key: str | None = None) -> Any:
    """Return the record with the place of each image in place of it, and add the image to `taken`.

    A place is ``{"bytes": {"embedded": n}, "path": None}``, or what stands under its `bytes`; n counts `taken`.

    Parameters
    ----------
    key
        The key that `record` stands under.
    """
    if isinstance(record, Mapping):
        return {name: without_images(value, taken, name) for name, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [without_images(value, taken) for value in record]
    if isinstance(record, _BYTES):
        taken.append(bytes(record))
        place = {"embedded": len(taken) - 1}
        return place if key == "bytes" else {"bytes": place, "path": None}
    if isinstance(record, Image.Image):
        taken.append(record)
        name = getattr(record, "filename", None)
        path = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) and name else None
        return {"bytes": {"embedded": len(taken) - 1}, "path": path}
    return record


def with_images(record: Any, taken: list[Embedded]) -> Any:
    """Return the record with each place turned into the base64 of its image, null where it is a broken picture."""
    if isinstance(record, dict):
        place = record.get("bytes")
        if isinstance(place, dict) and place.keys() == {"embedded"} and place["embedded"] in range(len(taken)):
            return {**record, "bytes": _base64_of(taken[place["embedded"]])}
        return {name: with_images(value, taken) for name, value in record.items()}
    return [with_images(value, taken) for value in record] if isinstance(record, list) else record


def bytes_of(image: Embedded) -> bytes:
    """Return the bytes, of a picture those of a PNG file of it.

    Raises
    ------
    SampleError
        `image_unreadable`: Pillow opened a broken file.
    """
    if isinstance(image, bytes):
        return image
    file = io.BytesIO()
    try:
        exif = image.getexif()
        options: dict[str, Any] = {"exif": exif} if exif else {}
        if image.mode not in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}:
            image = image.convert("RGB")  # as it is shown to the model
        image.save(file, "PNG", compress_level=1, **options)
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise nearly everything on broken files
        raise SampleError(Reason.IMAGE_UNREADABLE, f"{type(error).__name__}: {error}") from None
    return file.getvalue()


def digest_of(image: Embedded) -> bytes:
    """Return a SHA-256 by which images can be told: of the bytes, or of a picture's mode, size and pixels."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    try:
        pixels = image.tobytes()
    except Exception as error:  # noqa: BLE001  see `bytes_of`
        pixels = type(error).__name__.encode()
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + pixels).digest()


def _base64_of(image: Embedded) -> str | None:
    try:
        return base64.b64encode(bytes_of(image)).decode()
    except SampleError:
        return None

"""Pillow's own limit of pixels, set to the one that is asked for while a picture is decoded."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_asked_for: list[int] = []  # by those who are decoding now
_before: int | None = None


@contextmanager
def pixel_limit(pixels: int) -> Iterator[None]:
    """Let Pillow decode pictures of up to `pixels` inside the block, and refuse those of more than twice as many.

    Decoders ask for the limit also where another picture lies inside a file. It is one for the whole process: of
    threads that decode at the same time the highest counts, and the last one brings back what was there before.
    """
    global _before  # noqa: PLW0603  so is Pillow's
    with _lock:
        if not _asked_for:
            _before = Image.MAX_IMAGE_PIXELS
        _asked_for.append(pixels)
        Image.MAX_IMAGE_PIXELS = max(_asked_for)
    try:
        yield
    finally:
        with _lock:
            _asked_for.remove(pixels)
            Image.MAX_IMAGE_PIXELS = max(_asked_for) if _asked_for else _before
